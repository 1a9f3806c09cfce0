"""How the processes that multiprocessing starts (forkservers, workers, trackers) begin and end; where sockets are."""

import atexit
import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from search.checkout import ROOT

_OWN_IMPORTS = str(Path(__file__).with_name("own_imports.py").resolve())
_spawn = util.spawnv_passfds
_program = threading.Lock()


def guard_interpreters() -> None:
    """Let every process that multiprocessing starts take its modules from where `search.machine.own_imports` says.

    Without this its `python -c` would import from the working directory first of all. All ways to start one go through
    the one function that is replaced here; the environment, which could say some of it, stays as the user made it.
    """
    util.spawnv_passfds = _start


@contextlib.contextmanager
def without_program() -> Iterator[None]:
    """Let processes that are started in this block not read and run the program that calls us once more.

    multiprocessing does so in every child. What ours do stands in modules; a user's script would search again, and
    run_study.py may be another version's by then.
    """
    with _program:  # a notebook may search in several threads
        program = sys.modules["__main__"].__dict__
        file, spec = program.pop("__file__", None), program.get("__spec__")
        program["__spec__"] = None
        try:
            yield
        finally:
            program["__spec__"] = spec
            if file is not None:
                program["__file__"] = file


def bind_forkserver() -> None:
    """End the forkserver at once when this process ends, and has ended what it started there.

    By itself it would load to the end first, seconds in which whoever reads what we print waits for the pipe's end.
    """
    atexit.unregister(_end_forkserver)
    atexit.register(_end_forkserver, os.getpid())


def _end_forkserver(owner: int) -> None:
    pid: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None and os.getpid() == owner:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class LentForkserver:
    """The forkserver of a process, for others that it starts: what it has loaded need not be loaded by each of them.

    Args:
        address: Of its socket, in a folder that is the user's alone.
        key: What later versions of Python want to be told by whoever asks for a child.
    """

    address: str
    key: bytes | None = None


def lend_forkserver() -> LentForkserver | None:
    """That of this process, for those that it starts; None where it has none."""
    own: Any = forkserver._forkserver
    if own._forkserver_pid is None:
        return None
    return LentForkserver(address=own._forkserver_address, key=getattr(own, "_forkserver_authkey", None))


def borrow_forkserver(lent: LentForkserver) -> None:
    """Take the children of this process from another's forkserver, until that is gone; then from one of its own."""
    forkserver.connect_to_new_process = _Borrowed(lent).connect_to_new_process


class _Borrowed(forkserver.ForkServer):
    def __init__(self, lent: LentForkserver) -> None:
        super().__init__()
        self._forkserver_address: str = lent.address
        self._forkserver_authkey = lent.key

    def ensure_running(self) -> None:
        """Leave it to whose it is."""
        # Children are given what keeps their server alive. This one ends when its owner does, so they get another pipe.
        self._forkserver_alive_fd = resource_tracker.getfd()

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[int, int]:
        try:
            return super().connect_to_new_process(fds)
        except (ConnectionError, FileNotFoundError):
            own = forkserver._forkserver
            forkserver.connect_to_new_process = own.connect_to_new_process
            return own.connect_to_new_process(fds)


def _start(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """Start an interpreter without the working directory on its path, and let it clean the path before its program."""
    at = list(args).index("-c") + 1
    return _spawn(path, [args[0], "-P", *args[1:at], own_program(str(args[at])), *args[at + 1 :]], passfds)


def own_program(statement: str, checkout: Path | None = None) -> str:
    """The program for `python -P -c` that executes a statement once modules are taken from where they should be.

    `checkout` is another than this one, on another machine.
    """
    file = _OWN_IMPORTS if checkout is None else str(checkout / Path(_OWN_IMPORTS).relative_to(ROOT))
    # The file is closed at once: with PYTHONWARNINGS=error, every process would complain of it.
    return (
        f"f = {file!a}\n"
        "with open(f, 'rb') as file: code = compile(file.read(), f, 'exec')\n"
        f"exec(code, {{'__file__': f}}); {statement}"
    )


_MAX_BYTES = 70  # a path of 103 is possible everywhere; multiprocessing adds `/pymp-xxxxxxxx/listener-xxxxxxxx`
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def make_socket_folder() -> None:
    """Let multiprocessing make its folder of sockets, whose paths have to be short: elsewhere if $TMPDIR is too long.

    To be called before it is needed.

    Raises:
        UserError: There is no folder that it could be made in.
    """
    try:
        usual = tempfile.gettempdir()
    except OSError as error:
        raise UserError(
            f"There is no folder for temporary files ({error.strerror or error}): set $TMPDIR to one."
        ) from None
    is_short = len(os.fsencode(usual)) <= _MAX_BYTES
    for folder in (usual,) if is_short else _SHORT:
        with contextlib.suppress(OSError):
            tempfile.tempdir = folder
            util.get_temp_dir()  # it is made once, and removed when the process ends
            break
    else:
        tempfile.tempdir = usual
        why = "cannot be written" if is_short else f"has a path of more than {_MAX_BYTES} bytes, too long for a socket"
        raise UserError(f"The folder for temporary files, {usual}, {why}: set $TMPDIR to another.")
    tempfile.tempdir = usual
