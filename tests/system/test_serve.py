"""A Postgres of one's own: nothing is lost when it stops, nobody comes in without the password, and dumps restore."""

import contextlib
import encodings.idna  # noqa: F401  (of the socket module; another user may not read the interpreter's files)
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from search.server.account import find_account
from search.server.programs import Programs, find_programs
from search.storage.database import Database, open_database
from search.study.study import count
from tests.helpers.answers import run_here
from tests.helpers.own_servers import (
    OwnServer,
    as_another_user,
    call_server,
    environment,
    open_folder,
    refusal,
    run_as,
    serving,
    start_server,
)
from tests.helpers.processes import ROOT, SEARCH, SHORT, STUDY, Search, finish, is_alive

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.timeout(1200),
]
N_TRIALS = 8
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user, and mount")


@pytest.fixture
def place() -> Iterator[Path]:
    """A fresh folder, whose `server` the tests serve."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The folder of the server that several tests share."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[OwnServer]:
    with serving(home) as server:
        yield server


def make_study(database: Database, name: str) -> None:
    study = optuna.create_study(study_name=name, storage=database.storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)


def trials_at(url: str, name: str = STUDY) -> list[optuna.trial.FrozenTrial]:
    storage = open_database(url, create=False).storage
    return optuna.load_study(study_name=name, storage=storage).trials


def libpq(url: str) -> str:
    """The URL as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def postgres_of(folder: Path) -> int:
    return int((folder / "server" / "data" / "postmaster.pid").read_text().partition("\n")[0])


def test_two_commands_search_on_through_a_stop_to_the_exact_budget(place: Path) -> None:
    first = start_server(place)
    command = [sys.executable, str(ROOT / "run_study.py"), *SEARCH, "--n-trials", str(N_TRIALS), *SHORT]
    searches = []
    for name in ("a", "b"):
        (place / name).mkdir()
        searches.append(Search([*command, "trainer.threads=1"], place / name, environment(first.url)))
    deadline = time.monotonic() + 300
    before: list[optuna.trial.FrozenTrial] = []
    while not any(trial.state.is_finished() for trial in before):
        assert time.monotonic() < deadline, [search.said() for search in searches]
        assert all(search.poll() is None for search in searches), [search.said() for search in searches]
        time.sleep(0.2)
        storage = open_database(first.url, create=True).storage
        before = optuna.load_study(study_name=STUDY, storage=storage).trials if storage.study_names() else []
    status, out, err = first.end()
    assert (status, err) == (0, "")
    assert "has stopped" in out
    time.sleep(3)
    with serving(place) as second:
        assert second.url == first.url
        for search in searches:
            status, said = finish(search)
            assert status == 0, said
            assert first.password not in said
        found = trials_at(second.url)
        told = [(trial.number, trial.state, trial.user_attrs) for trial in found]
        assert count(found).n_finished == N_TRIALS, told  # a trial whose worker was given up meanwhile is none
        done = {trial.number: trial.values for trial in found}
        assert {t.number: t.values for t in before if t.state == TrialState.COMPLETE}.items() <= done.items()
        log = (place / "server" / "log").read_text()
        assert first.password not in log


def test_the_password_is_in_one_file_of_mode_600_and_nowhere_else(server: OwnServer, home: Path) -> None:
    folder = home / "server"
    assert stat.S_IMODE((folder / "url").stat().st_mode) == 0o600
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in ("data", "socket")} == {0o700}
    assert "***@127.0.0.1:" in server.lines[0]
    assert server.password not in "".join(server.lines)
    run_here("status", "--storage", server.url.replace(server.password, "wrong"), cwd=home)
    hidden = server.password.encode()
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *folder.glob("*")]:
        if path.is_file() and path.name != "url":
            try:
                assert hidden not in path.read_bytes(), path
            except (FileNotFoundError, ProcessLookupError):  # of a process that has ended
                continue


@pytest.mark.smoke
def test_a_wrong_password_is_refused_in_a_sentence(server: OwnServer, home: Path) -> None:
    said = run_here("status", "--storage", server.url.replace(server.password, "wrong"), cwd=home).refusal()
    assert "check its user and password" in said


def test_the_workers_role_owns_its_database_and_nothing_else(server: OwnServer, home: Path) -> None:
    said = run_here("init", "--reader", "looker", "--storage", server.url, cwd=home).refusal()
    assert "permission denied to create role" in said
    with psycopg.connect(libpq(server.url), autocommit=True) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
            "WHERE rolname = current_user"
        ).fetchone()
        assert row == (False,) * 5
        for statement in (
            "CREATE ROLE another",
            "CREATE DATABASE another",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_read_file('PG_VERSION')",
            "ALTER SYSTEM SET fsync = off",
            "SELECT rolpassword FROM pg_authid",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)  # type: ignore[call-overload]
        row = connection.execute("SELECT current_setting('fsync'), current_setting('max_connections')::int").fetchone()
        assert row is not None
        assert row[0] == "on"
        assert row[1] >= 4 * 64
    url = make_url(server.url)
    for user, database in (("flipsearch", "postgres"), ("owner", "flipsearch"), ("owner", "postgres")):
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(host=url.host, port=url.port, user=user, password=url.password, dbname=database)


def greeting(port: int, user: str) -> str:
    """What the server answers to somebody who says who they are: the kind of the message, and what it asks for."""
    words = f"user\0{user}\0database\0flipsearch\0\0".encode()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
        answer = connection.recv(4096)
    return f"{answer[:1].decode()} {answer[5:].decode(errors='replace')!r}"


@as_root
def test_another_user_of_the_machine_cannot_connect_without_the_password(server: OwnServer, home: Path) -> None:
    folder, port = home / "server", make_url(server.url).port
    assert port is not None

    def by_socket() -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder / "socket" / f".s.PGSQL.{port}"))
        return "connected"

    for act in (
        by_socket,
        lambda: str(os.listdir(folder)),
        lambda: str(os.listdir(folder / "socket")),
        lambda: str(os.listdir(folder / "data")),
        lambda: (folder / "url").read_text(),
        lambda: (folder / "log").read_text(),
    ):
        assert as_another_user(act).startswith("PermissionError")
    assert as_another_user(lambda: os.readlink(f"/proc/{postgres_of(home)}/cwd")).startswith("PermissionError")
    # A password is asked for, by SCRAM and nothing else; and the superuser's is not even asked for.
    assert as_another_user(lambda: greeting(port, "flipsearch")) == r"R '\x00\x00\x00\nSCRAM-SHA-256\x00\x00'"
    assert "no pg_hba.conf entry" in as_another_user(lambda: greeting(port, "owner"))
    with psycopg.connect(libpq(server.url)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_folder_and_a_port_have_one_server(server: OwnServer, home: Path, place: Path) -> None:
    assert "runs in" in refusal(call_server(home))
    port = str(make_url(server.url).port)
    said = refusal(call_server(place, "--port", port))
    assert f"127.0.0.1:{port}: the port is in use" in said
    assert not (place / "server" / "data").exists()


def test_a_dump_restores_into_an_empty_server(server: OwnServer, home: Path, place: Path) -> None:
    make_study(open_database(server.url, create=True), "dumped")
    file = home / "ä studies.dump"
    done = call_server(home, "--dump", str(file))
    assert done.returncode == 0, done
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in home.iterdir()) == ["server", file.name]
    done = call_server(place, "--restore", str(file))
    assert done.returncode == 0, done
    assert "has the 1 study of" in done.stdout
    assert "has studies already" in refusal(call_server(place, "--restore", str(file)))
    again = place / "again.dump"
    assert call_server(place, "--dump", str(again)).returncode == 0  # while it does not run
    with serving(place) as second:
        assert trials_at(second.url, "dumped") == trials_at(server.url, "dumped")
        assert second.password != server.password
    (place / "cut.dump").write_bytes(again.read_bytes()[:-3000])
    (place / "other.dump").write_bytes(b"something else")
    more = place / 'mo"re ä'
    more.mkdir(mode=0o711)
    assert "is no dump" in refusal(call_server(more, "--restore", str(place / "other.dump")))
    assert not (more / "server").exists()
    said = refusal(call_server(more, "--restore", str(place / "cut.dump")))
    assert "failed, and left nothing" in said
    assert call_server(more, "--restore", str(again)).returncode == 0
    assert "There is no server" in refusal(call_server(place, "--dump", str(again), "--folder", "x"))


def test_a_dump_of_something_else_leaves_nothing(place: Path) -> None:
    file = place / "strange.dump"
    with serving(place) as server:
        with psycopg.connect(libpq(server.url)) as connection:
            connection.execute("CREATE TABLE strange (x int)")
        assert call_server(place, "--dump", str(file)).returncode == 0
    (place / "second").mkdir()
    assert "is no dump of studies" in refusal(call_server(place / "second", "--restore", str(file)))
    with serving(place / "second") as server, psycopg.connect(libpq(server.url)) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert row == (0,)


def test_a_killed_serve_takes_its_postgres_along_and_starts_again(place: Path) -> None:
    first = start_server(place)
    make_study(open_database(first.url, create=True), "kept")
    pid = postgres_of(place)
    first.process.kill()
    first.process.communicate()
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with serving(place) as second:
        assert second.url == first.url
        # Without the guard that ends it: the server is left behind, and the next `serve` stops it first.
        pid = postgres_of(place)
        guards = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_guard(path, pid)]
        assert len(guards) == 1
        os.kill(int(guards[0].parent.name), signal.SIGKILL)
        second.process.kill()
        second.process.communicate()
        assert is_alive(pid)
    with serving(place) as third:
        assert not is_alive(pid)
        assert third.url == first.url
        assert len(trials_at(third.url, "kept")) == 3
        os.kill(postgres_of(place), signal.SIGKILL)  # the server alone, as a machine does that has no memory left
        _, err = third.process.communicate(timeout=60)
    first_line, last_line = err.splitlines()
    assert "left behind" in first_line
    assert last_line.startswith("error: Postgres ended")
    assert third.process.returncode == 2
    # After a reboot the number in postmaster.pid is that of something else.
    file = place / "server" / "data" / "postmaster.pid"
    file.write_text(file.read_text().replace(str(postgres_of(place)), str(os.getpid()), 1))
    with serving(place) as fourth:
        assert len(trials_at(fourth.url, "kept")) == 3


def _is_guard(path: Path, pid: int) -> bool:
    try:
        return path.read_bytes().endswith(f"kill -INT {pid}\0".encode())
    except OSError:
        return False


def test_other_machines_come_in_by_tls_and_the_right_certificate(place: Path) -> None:
    shared = place / "shared.url"
    with serving(place, "--host", "0.0.0.0", "--url-file", str(shared)) as server:
        assert stat.S_IMODE(shared.stat().st_mode) == 0o600
        url = make_url(shared.read_text().strip())
        assert url.query == {"sslmode": "verify-ca", "sslrootcert": f"{shared}.pem"}
        assert url.host == socket.gethostname()
        assert stat.S_IMODE((place / "server" / "key.pem").stat().st_mode) == 0o600
        here = url.set(host="127.0.0.1")
        make_study(open_database(here.render_as_string(hide_password=False), create=True), "far")
        assert len(trials_at(here.render_as_string(hide_password=False), "far")) == 3
        with psycopg.connect(libpq(here.render_as_string(hide_password=False))) as connection:
            much = connection.execute("SELECT repeat('x', 5000000) || %s", ["y" * 3_000_000]).fetchone()
            assert much == ("x" * 5_000_000 + "y" * 3_000_000,)
            assert connection.pgconn.ssl_in_use
        plain = here.set(query={"sslmode": "disable"}).render_as_string(hide_password=False)
        assert "check sslmode" in run_here("status", "--storage", plain, cwd=place).refusal()
        wrong = here.set(password="wrong").render_as_string(hide_password=False)
        assert "check its user and password" in run_here("status", "--storage", wrong, cwd=place).refusal()
        other = place / "other.pem"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-out", str(other)]
        subprocess.run([*words, "-keyout", os.devnull], check=True, capture_output=True)
        strange = here.update_query_dict({"sslrootcert": str(other)}).render_as_string(hide_password=False)
        assert "certificate" in run_here("status", "--storage", strange, cwd=place).refusal()
        # What comes in plain text together with the question for TLS is never taken for encrypted.
        assert here.port is not None
        with socket.create_connection(("127.0.0.1", here.port), 10) as raw:
            raw.sendall(struct.pack("!II", 8, 80877103) + b"planted words that are no TLS")
            assert raw.recv(1) == b"S"
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(100)[:1] in (b"", b"\x15")  # it is closed, or told so by TLS's own alert
        first = server.url
    with serving(place, "--host", "0.0.0.0") as server:
        assert server.url == first


def test_a_lost_url_is_a_new_password(place: Path) -> None:
    with serving(place) as server:
        make_study(open_database(server.url, create=True), "kept")
        assert server.end(signal.SIGTERM)[::2] == (0, "")
    (place / "server" / "url").unlink()
    with serving(place) as second:
        assert second.password != server.password
        assert len(trials_at(second.url, "kept")) == 3
    (place / "server" / "url").write_text(second.url.replace(second.password, "another") + "\n")
    assert "remove that file" in refusal(call_server(place))
    version = place / "server" / "data" / "PG_VERSION"
    version.write_text("9\n")
    assert "made by Postgres 9, and here is Postgres" in refusal(call_server(place))


def write_much(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    connection.execute("CREATE TABLE much (x text)")
    for _ in range(1000):
        connection.execute("INSERT INTO much SELECT repeat(md5(random()::text), 3000)")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own."""
    disk = folder / f"disk-{megabytes}"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", disk]).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@as_root
def test_programs_below_a_closed_folder_are_copied_for_whom_postgres_runs_as(place: Path) -> None:
    closed = place / "home"
    closed.mkdir(mode=0o700)
    shutil.copytree(find_programs().folder.parent, closed / "postgres", symlinks=True)
    programs = Programs(folder=closed / "postgres" / "bin", version=18)
    account = find_account(run_as()[1])
    copy = programs.usable_by(account, place)
    assert copy.folder == place / "postgres-18" / "bin"
    assert programs.usable_by(account, place) == copy
    assert sorted(path.name for path in place.iterdir()) == ["home", "postgres-18"]


@as_root
def test_a_disk_that_is_full_from_the_start_is_a_sentence(place: Path) -> None:
    with small_disk(place, 24) as disk:
        assert "is full: make room" in refusal(call_server(disk))
        assert not [*(disk / "server").glob("data*")]


@as_root
def test_a_disk_that_fills_up_loses_nothing(place: Path) -> None:
    with small_disk(place, 110) as disk:
        with serving(disk) as server:
            make_study(open_database(server.url, create=True), "kept")
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
                while filler.write(bytes(1 << 16)):
                    pass
            with psycopg.connect(libpq(server.url), autocommit=True) as connection, pytest.raises(psycopg.Error):
                write_much(connection)
            assert "No space left" in refusal(call_server(disk, "--dump", str(disk / "kept.dump")))
            assert not (disk / "kept.dump").exists()
        (disk / "filler").unlink()
        with serving(disk) as again:
            assert len(trials_at(again.url, "kept")) == 3
