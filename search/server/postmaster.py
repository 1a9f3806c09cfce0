"""A Postgres that runs as long as we do: started, waited for, and stopped so that nothing is lost."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from datasets.common.errors import UserError
from search.machine.limits import DISK_FULL
from search.server.credentials import DATABASE, ROLE
from search.server.data import environment, told
from search.server.folder import ServerFolder
from search.server.programs import Programs
from search.server.server_log import ServerLog

MOST_CONNECTIONS = 400
"""A worker has up to four; and they come and go."""
_STOP_S = _START_S = 60
_SETTINGS = {
    "max_connections": MOST_CONNECTIONS,
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "authentication_timeout": "20s",
    "unix_socket_permissions": "0700",
    "ssl": "off",  # others reach the server through the door (search.server.door), which has it
    "jit": "off",
    "max_parallel_workers_per_gather": 0,  # a container's /dev/shm has no room for them
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What stands in statements and rows stays out of the log.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


class Postmaster:
    """The server's process.

    Args:
        process: That of `postgres`.
        log: What it says.
        folder: Whose data it has.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log: ServerLog, folder: ServerFolder) -> None:
        self._process, self._log, self._folder = process, log, folder
        # Ends the server when this process is gone, however it went: then the pipe closes.
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read line; kill -INT {process.pid}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def wait_until_ready(self, port: int, password: str) -> None:
        """Wait until a worker can connect; after a crash the server goes through its log first.

        Raises:
            UserError: The server ended, or refuses the password.
        """
        deadline = time.monotonic() + _START_S
        while True:
            try:
                connect(self._folder, port, password).close()
                return
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise UserError(
                        f"The password in {self._folder.url} is not the server's: remove that file, and `serve` makes "
                        "a new one with a new password."
                    ) from None
                if self._process.poll() is not None:
                    raise self._failure() from None
                if "starting up" in str(error):
                    deadline = time.monotonic() + _START_S
                if time.monotonic() > deadline:
                    raise UserError(f"Postgres does not answer ({told(str(error))}): see {self._folder.log}.") from None
                time.sleep(0.05)

    def wait(self) -> None:
        """Wait until the server ends by itself, which it does not do in good health.

        Raises:
            UserError: It has ended.
        """
        self._process.wait()
        raise self._failure()

    def stop(self) -> None:
        """End every connection and stop, with all that was committed on the disk; a Ctrl-C meanwhile hurries it."""
        for number in (signal.SIGINT, signal.SIGQUIT):  # what Postgres calls fast, and immediate
            if self._process.poll() is None:
                self._process.send_signal(number)
            with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
                break
        self._guard.kill()
        self._guard.communicate()

    def _failure(self) -> UserError:
        said = self._log.last()
        where = self._folder.path
        if re.search(DISK_FULL, said):
            return UserError(f"Postgres ended, because the disk of {where} is full: make room, then serve again.")
        if "Address already in use" in said:
            return UserError("Postgres cannot listen, because its port is in use: name another --port.")
        return UserError(f"Postgres ended ({told(said)}): see {self._folder.log}, then serve again.")


@contextlib.contextmanager
def running(programs: Programs, folder: ServerFolder, *, port: int, listen: str = "") -> Iterator[Postmaster]:
    """A server on the data of a folder, whose lock this process has; it stops with the block.

    Args:
        programs: Postgres's, of the version that made the data.
        folder: With data.
        port: Its port, which is part of the socket's name too.
        listen: The loopback address that it listens on; "" for the socket alone.
    """
    lines = [f"local {DATABASE} {ROLE} scram-sha-256"]
    lines += [f"host {DATABASE} {ROLE} {network} scram-sha-256" for network in ("127.0.0.0/8", "::1/128")]
    with folder.written():
        folder.rules.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        folder.give(folder.rules)
    settings = _SETTINGS | {
        "listen_addresses": listen,
        "port": port,
        "unix_socket_directories": _quoted(folder.socket),
        "hba_file": folder.rules,
    }
    process = subprocess.Popen(
        [
            *(programs.folder / "postgres", "-D", folder.data),
            *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
        ],
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        umask=0o077,
        start_new_session=True,  # a Ctrl-C is ours alone
        **folder.account.of_child,
    )
    assert process.stdout is not None
    postmaster = Postmaster(process, ServerLog(folder.log, process.stdout), folder)
    try:
        yield postmaster
    finally:
        postmaster.stop()


def _quoted(path: Path) -> str:
    """One member of a list of paths."""
    return '"' + str(path).replace('"', '""') + '"'


def connect(folder: ServerFolder, port: int, password: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of the workers' role, through the socket."""
    return psycopg.connect(
        host=str(folder.socket), port=port, user=ROLE, password=password, dbname=DATABASE, connect_timeout=10
    )


def end_leftover(data: Path, announce: Callable[[str], None]) -> None:
    """End the server that still runs on the data, although the `serve` that started it is gone.

    Of postmaster.pid Postgres itself believes that a process with its number is a server; after a reboot, and in
    containers, that is often something else, perhaps for ever. It takes its parent's number, ours, for an old one.

    Raises:
        UserError: It does not end.
    """
    file = data / "postmaster.pid"
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        number, _, rest = text.partition("\n")
        pid = int(number)
    except FileNotFoundError:
        return
    except ValueError:  # it was being written when the machine lost its power
        file.unlink()
        return
    if not Path("/proc/self").exists():
        return
    if not _works_on(pid, data):
        if Path(f"/proc/{pid}").exists():
            with open(os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "w", errors="surrogateescape") as again:
                again.write(f"{os.getpid()}\n{rest}")
        return
    announce(f"A Postgres that an earlier `serve` left behind (process {pid}) is stopped first.")
    deadline = time.monotonic() + _STOP_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    while _works_on(pid, data):
        if time.monotonic() > deadline:
            raise UserError(f"The Postgres with the process number {pid} has these data and does not end: end it.")
        time.sleep(0.05)


def _works_on(pid: int, data: Path) -> bool:
    """Whether a process is Postgres on these data: it works in their folder."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data
    except OSError:
        return False
