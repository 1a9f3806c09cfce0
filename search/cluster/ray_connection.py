"""The Ray cluster of a search: the one that runs, or one of our own on this machine, closed to everybody else.

A cluster of our own listens on the loopback address alone, asks for a token that nobody else knows, and has no
dashboard. It ends with the search.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from search.cluster.ray_token import refused, token_shown
from search.machine.hardware import usable_cores, visible_gpus
from search.machine.standard_streams import printable

_OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's least is 75 MB; nothing large passes through it."""
_LONGEST_FOLDER = 20  # the paths of Ray's sockets below it have to stay below 107 bytes
_ANSWER_S = 5.0
_KNOCK_S = 1.0  # everything else stands still meanwhile
LOCAL = "local"
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A cluster that this process is connected to; `ray` is the package, `is_ours` says that we have started it."""

    ray: Any
    address: str
    is_ours: bool


def check_address(address: str | None) -> None:
    """Refuse what is no address, and an environment without Ray.

    Raises:
        UserError: It is so.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("--engine ray needs the package ray, which is not installed: pip install 'ray>=2.52'.")
    if address not in (None, "auto", LOCAL) and not re.fullmatch(r"[\w.-]{1,253}:[0-9]{1,5}", address or ""):
        raise UserError(
            f"--address {printable(str(address)[:100])!r} is not valid: expected HOST:PORT of the cluster's head as "
            "`ray start --head` prints it, auto for the cluster that runs on this machine, or local for one of its own."
        )


@contextlib.contextmanager
def connected(
    address: str | None, announce: Callable[[str], None], *, ship: Path | None = None
) -> Iterator[RayCluster]:
    """Connect to a cluster inside this block, or start one.

    Args:
        address: HOST:PORT, `auto` or `local`; None is the cluster that runs, or else one of our own.
        announce: Told if others could get in.
        ship: A folder that every node gets a copy of, in which actors run; None sends nothing.

    Raises:
        UserError: There is no cluster there, or it does not take this process.
    """
    found = _running(address)
    if found is not None:
        _probe(found)
    with contextlib.ExitStack() as stack:
        if found is None:
            stack.enter_context(_environment())
        ray: Any = importlib.import_module("ray")  # heavy, and optional
        if ray.is_initialized():  # by the program that searches from Python
            if ship is not None:
                raise UserError(
                    "This program is connected to Ray already, and ship=True has to connect by itself: call "
                    "ray.shutdown() before the search."
                )
            yield RayCluster(ray=ray, address=ray.get_runtime_context().gcs_address, is_ours=False)
            return
        is_open = found is not None and stack.enter_context(token_shown(found))
        stack.enter_context(_silence())  # until after the end, when Ray prints what it held back
        stack.callback(ray.shutdown)
        sent = {} if ship is None else {"runtime_env": {"working_dir": str(ship)}}
        if found is None:
            _start(ray, stack, sent)
        else:
            _join(ray, found, sent)
        where = ray.get_runtime_context().gcs_address
        if is_open and not where.startswith("127."):
            announce(
                f"Ray's token authentication is off: whoever reaches {where} can run programs there as its user and "
                "read this study's database URL; start the cluster with RAY_AUTH_MODE=token."
            )
        yield RayCluster(ray=ray, address=where, is_ours=found is None)


def _running(address: str | None) -> str | None:
    """HOST:PORT of the cluster that is meant; None for one of our own."""
    if address not in (None, "auto"):
        return None if address == LOCAL else address
    given = os.environ.get("RAY_ADDRESS")
    if given and given not in ("auto", LOCAL):
        if not re.fullmatch(r"[\w.-]{1,253}:[0-9]{1,5}", given):
            raise UserError(f"$RAY_ADDRESS={printable(given[:100])} is not valid: expected HOST:PORT, or --address.")
        return given
    noted = None if given == LOCAL else _noted()
    if noted is None and address == "auto":
        raise UserError(
            "--address auto finds no Ray cluster of yours on this machine: start it with `ray start`, or leave "
            "--address out for a cluster of this command's own."
        )
    return noted


def _noted() -> str | None:
    """The cluster that `ray start` of this user has noted on this machine, if it still answers."""
    # Without importing Ray, which reads the environment of a cluster of our own when it is imported.
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    file = Path(folder, "ray", "ray_current_cluster")
    try:
        if file.stat().st_uid not in (os.geteuid(), 0):
            return None  # it leads to another user's cluster, who would be told our password
        noted = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    if not re.fullmatch(r"[\w.-]{1,253}:[0-9]{1,5}", noted):
        return None
    with contextlib.suppress(UserError):
        _probe(noted)
        return noted
    return None  # it was not stopped in order


def answers(address: str) -> bool:
    """Whether somebody listens there."""
    try:
        _knock(address, _KNOCK_S)
    except OSError:
        return False
    return True


def _knock(address: str, timeout_s: float) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=timeout_s).close()


def _probe(address: str) -> None:
    """Refuse an address where nobody listens: Ray would ask it for minutes."""
    try:
        _knock(address, _ANSWER_S)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"No Ray cluster answers at {address} ({why}): start it with `ray start --head`, name another --address, "
            "or take --address local for a cluster of this command's own."
        ) from None


def _join(ray: Any, address: str, sent: dict[str, Any]) -> None:
    try:
        _init(ray, address=address, **sent)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise refused(address, error) from None


def _start(ray: Any, stack: contextlib.ExitStack, sent: dict[str, Any]) -> None:
    usual = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray-", dir=usual if len(usual) <= _LONGEST_FOLDER else "/tmp")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(ray.shutdown)  # before its folder goes
    try:
        _init(
            ray,
            address=LOCAL,
            include_dashboard=False,
            num_cpus=usable_cores(),
            num_gpus=len(visible_gpus()),
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=os.path.join(folder, "r"),  # which Ray opens to every user of the machine
            **sent,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = printable(" ".join(str(error).split())[:300])
        raise UserError(f"Ray cannot be started on this machine ({why}): leave --engine ray out.") from None
    if not ray.get_runtime_context().gcs_address.startswith(f"{_LOOPBACK}:"):
        raise UserError(
            "This version of Ray does not keep a cluster to this machine: start one with `ray start --head` and name "
            "it with --address, or leave --engine ray out."
        )


def _init(ray: Any, **settings: Any) -> None:
    """Connect; what Ray logs does not reach the terminal."""
    job = importlib.import_module("ray.job_config").JobConfig()
    # Ray would let the nodes' processes import from the folder where the user is, before everything else. A job that
    # brings a folder of its own is spared.
    job._runtime_env_has_working_dir = lambda: True
    with _as_now(signal.SIGTERM):  # Ray's handler would end the process in the midst of a trial
        ray.init(log_to_driver=False, logging_level="CRITICAL", job_config=job, **settings)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what Ray's nodes tell every driver in pages; a fleet says in a sentence what it means."""
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = True


@contextlib.contextmanager
def _as_now(number: signal.Signals) -> Iterator[None]:
    """Keep the handler of a signal; outside of the main thread nobody can change it."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, before)


@cache
def _token() -> str:
    """One for all clusters of this process, since Ray reads it once."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What a cluster of our own reads from the environment; its processes are this user's alone, as it is."""
    ours = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what Ray calls it not to listen on the loopback address alone
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
