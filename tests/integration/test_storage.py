"""Storage URLs, SQLite files, schemas of other versions, and passwords that appear nowhere."""

import contextlib
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
from sqlalchemy.exc import InvalidatePoolError, OperationalError

from datasets.common.errors import UserError
from search.machine import filesystems
from search.machine.filesystems import kind_of, network_kind
from search.options.commands import COMMANDS, options_of
from search.storage import database as storage
from search.storage import outages as outages_module
from search.storage.attributes import WORKER, DamagedRow
from search.storage.database import open_database
from search.storage.hide_url import NO_STORAGE, STORAGE, hide_storage, without_storage
from search.storage.outages import Outages, StorageLost, StorageRefused, is_outage, is_starting
from search.storage.remedies import reason_of
from search.storage.url import default_url, hide, parse_url, secrets_of, without_secrets
from tests.helpers.postgres import PASSWORD, USER, PostgresServer
from tests.helpers.processes import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SECRET = "s3cret/w@rd"
QUOTED = "s3cret%2Fw%40rd"
SEARCH = [
    "--task",
    "synthetic_two_vs_rest",
    "--model",
    "ridge",
    "--export-dir",
    "exported",
    "trainer.threads=1",
    "validation=holdout",
]
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.delenv("FLIPSEARCH_STORAGE", raising=False)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgres_means_psycopg_3(scheme: str) -> None:
    url = parse_url(f"{scheme}://me:{QUOTED}@host:1234/name?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert url.password == SECRET
    assert without_secrets(url) == "postgresql+psycopg://me:***@host:1234/name?sslmode=require"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{QUOTED}@host/name",
        f"postgresql://host/name?password={QUOTED}",
        f"postgresql://host/name?user=me&pasword={QUOTED}",
        f"postgresql://host/name?passfile=x&sslpassword={QUOTED}&sslmode=prefer",
    ],
)
def test_a_password_is_shown_nowhere_however_it_is_written(text: str) -> None:
    url = parse_url(text)
    for form in (SECRET, QUOTED):
        assert form not in without_secrets(url)
        assert form not in hide(f"password {form} is wrong", secrets_of(url))


def test_the_environments_password_is_a_secret_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert hide(f"bad {SECRET}", secrets_of(parse_url("postgresql://host/name"))) == "bad ***"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"postgresql://me:{SECRET}@host/name", "an @ in its password has to be written as %40"),
        (f"postgresql://me:{QUOTED}@host:port/name", "is malformed"),
        (f"postgresql+psycopg2://me:{QUOTED}@host/name", "is of a kind that is not known here"),
        (f"postgresql+asyncpg://me:{QUOTED}@host/name", "is of a kind that is not known here"),
        (f"postgresql+psycopg_async://me:{QUOTED}@host/name", "is of a kind that is not known here"),
        (f"mysql+pymysql://me:{QUOTED}@host/name", "is of a kind that is not known here"),
        ("sqlite+aiosqlite:///x.db", "is of a kind that is not known here"),
        ("redis://host", "is of a kind that is not known here"),
    ],
)
def test_other_urls_are_refused_without_their_password(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        parse_url(text)
    shown = "".join(traceback.format_exception(error.value))
    for part in (SECRET, QUOTED, "s3cret", "w@rd"):
        assert part not in shown


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "lustre", "fuse.gcsfuse"])
def test_sqlite_is_refused_on_network_file_systems(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path / "my share"
    shared.mkdir()
    (tmp_path / "link").symlink_to(shared)
    escaped = str(shared).replace(" ", "\\040")
    mounts.write_text(
        f"/dev/root / ext4 rw 0 0\nserver:/x {escaped} {kind} rw 0 0\ntmpfs {escaped}/fast tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    for path in (shared, tmp_path / "link"):
        with pytest.raises(UserError, match=rf"on a network file system \({kind}\).*Postgres") as error:
            open_database(f"sqlite:///{path}/deep/studies.db", create=True)
        assert "\n" not in str(error.value)
    assert list(shared.iterdir()) == []
    open_database(f"sqlite:///{shared}/fast/studies.db", create=True)
    open_database(f"sqlite:///{tmp_path}/studies.db", create=True)


def test_the_deepest_and_latest_mount_counts() -> None:
    mounts = "a / ext4 rw 0 0\nb /data nfs rw 0 0\nc /data/local xfs rw 0 0\nd /data ext4 rw 0 0\n"
    assert kind_of(Path("/data/x"), mounts) == "ext4"
    assert kind_of(Path("/data/local/x"), mounts) == "xfs"
    assert kind_of(Path("/database"), mounts) == "ext4"
    assert network_kind(Path.cwd()) is None


def test_an_sqlite_file_has_a_write_ahead_log_whatever_its_folder_is_called(tmp_path: Path) -> None:
    runs = tmp_path / "{runs} %41 ä#b?c&d"
    path = runs / "studies.db"
    database = open_database(default_url(runs), create=True)
    optuna.create_study(study_name="a", storage=database.storage)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("a",)]
    assert database.is_settled()


def test_a_link_to_an_sqlite_file_has_the_lock_of_the_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "link.db").symlink_to(tmp_path / "a" / "studies.db")
    link = partial(open_database, f"sqlite:///{tmp_path}/b/link.db", create=False, is_interrupted=lambda: True)
    lock = open_database(f"sqlite:///{tmp_path}/a/studies.db", create=True).lock
    with lock, pytest.raises(StorageLost, match="held the lock"):
        link()
    link()


def test_a_server_that_starts_is_not_waited_for_by_who_was_interrupted() -> None:
    refusal = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"

    def serve() -> None:
        with contextlib.suppress(OSError, struct.error):  # the socket is closed at the end
            while True:
                client, _ = server.accept()
                with client:
                    while client.recv(struct.unpack("!I", client.recv(4))[0] - 4)[:2] == b"\x04\xd2":  # TLS, or GSS?
                        client.send(b"N")
                    client.send(b"E" + struct.pack("!I", len(refusal) + 4) + refusal)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        url = f"postgresql+psycopg://u@127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(StorageLost, match=r"Stopped while .* \(the database system is starting up\)"):
            open_database(url, create=True, is_interrupted=lambda: True)
        with pytest.raises(StorageRefused, match="wait until it is up"):
            Outages("x").call(lambda: psycopg.connect(url.replace("+psycopg", "")), lambda error: False)


def test_an_sqlite_file_that_is_locked_for_long_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_SQLITE_BUSY_TIMEOUT_S", 0.1)
    database = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    study = optuna.create_study(study_name="a", storage=database.storage)
    blocker = sqlite3.connect(tmp_path / "studies.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")

    def let_go_once_it_waits() -> None:
        while database.is_settled():
            time.sleep(0.01)
        blocker.execute("ROLLBACK")

    thread = threading.Thread(target=let_go_once_it_waits)
    thread.start()
    study.set_user_attr("x", 1)
    thread.join()
    blocker.close()
    assert study.user_attrs == {"x": 1}
    assert not database.is_settled()


def test_a_question_makes_no_tables(tmp_path: Path, postgres: PostgresServer) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    name = postgres.create_database()
    for url in (f"sqlite:///{tmp_path}/empty.db", postgres.url(name)):
        with pytest.raises(UserError, match="has no studies yet: run a search first"):
            open_database(url, create=False)
    with postgres.connect(name) as connection:
        assert connection.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'").fetchall() == []


def with_revision(url: str, revision: str) -> None:
    database = open_database(url, create=True)
    with database.storage.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        connection.exec_driver_sql("UPDATE version_info SET library_version = '1.2.3'")


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("v3.0.0.a", "run `optuna storage upgrade --storage URL` once"), ("v99.0.0.a", "run `pip install -U optuna`")],
)
def test_a_database_of_another_optuna(
    kind: str, create: bool, revision: str, remedy: str, postgres_url: str, tmp_path: Path
) -> None:
    url = postgres_url if kind == "postgres" else f"sqlite:///{tmp_path}/s.db"
    with_revision(url, revision)
    with pytest.raises(UserError) as error:
        open_database(url, create=create)
    assert f"was made by Optuna 1.2.3 (schema {revision}), not {optuna.__version__}" in str(error.value)
    assert remedy in str(error.value)
    assert PASSWORD not in str(error.value)


def test_a_database_with_tables_of_somebody_elses(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    with postgres.connect(name) as connection:
        connection.execute("CREATE TABLE studies (patient int)")
    with pytest.raises(UserError, match="has tables studies that are not of Optuna's making"):
        open_database(postgres.url(name), create=True)
    with postgres.connect(name) as connection:
        assert connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == [
            ("studies",)
        ]


def test_a_damaged_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    open_database(f"sqlite:///{path}", create=True)
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\1\2\3\4" * 5000)
    with pytest.raises(UserError, match=r"cannot be used .*: restore it from a copy"):
        open_database(f"sqlite:///{path}", create=True)


@pytest.fixture
def talkative_port() -> Iterator[int]:
    """A server that is no database."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    client.close()

        threading.Thread(target=answer, daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("words", [("status",), tuple(SEARCH)], ids=["status", "search"])
def test_each_mistake_in_a_postgres_url_is_one_sentence(
    command: Command,
    postgres: PostgresServer,
    talkative_port: int,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("search.workers.child.prepare_children", lambda: None)  # nothing here gets as far as training
    name = postgres.create_database()
    right = postgres.url(name)
    address = f"127.0.0.1:{postgres.port}"
    readable = postgres.create_database()
    with postgres.connect(readable) as connection:
        connection.execute(f"CREATE ROLE weak_{readable} LOGIN PASSWORD '{PASSWORD}'")  # type: ignore[call-overload]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    mistakes = {
        f"postgresql://{USER}:{QUOTED}@{address}/{name}": "password authentication failed",
        f"postgresql://nobody:{PASSWORD}@{address}/{name}": "check its user and password",
        f"postgresql://{USER}@{address}/{name}?password={QUOTED}": "password authentication failed",
        f"postgresql://{USER}@{address}/{name}": "check its user and password",
        right + "_not": "create it with `createdb`",
        right.replace(str(postgres.port), str(free)): "check its host and port",
        right.replace(str(postgres.port), str(talkative_port)): "does not answer",
        right.replace("127.0.0.1", "no.such.host.invalid"): "check the host's name",
        right + f"?pasword={QUOTED}": "pasword",
        right + "?sslmode=nonsense": "sslmode",
    }
    if words != ("status",):
        weak = f"postgresql://weak_{readable}:{PASSWORD}@{address}/{readable}"
        mistakes[weak] = "permission denied for schema public): grant the role what it lacks"
    for url, sentence in mistakes.items():
        answer = command(*words, "--storage", url)
        assert sentence in answer.refusal(), url
        for secret in (SECRET, QUOTED, PASSWORD):
            assert secret not in answer.out + answer.err + caplog.text, url
    monkeypatch.setenv("PGPASSWORD", SECRET)
    answer = command(*words, "--storage", f"postgresql://{USER}@{address}/{name}")
    assert "password authentication failed" in answer.refusal()
    assert SECRET not in answer.err
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    if words == ("status",):
        assert "has no studies yet" in command(*words, "--storage", f"postgresql://{USER}@{address}/{name}").refusal()


def test_a_password_is_not_in_the_chain_of_an_error(postgres: PostgresServer) -> None:
    with pytest.raises(UserError) as error:
        open_database(postgres.url("postgres", password=QUOTED), create=True)
    link: BaseException | None = error.value
    while link is not None:
        assert QUOTED not in f"{link!r} {vars(link)}"
        link = link.__cause__ or link.__context__
    assert len(traceback.format_exception(error.value)) == len(traceback.format_tb(error.tb)) + 2, "one error is shown"
    database = open_database(postgres.url(postgres.create_database()), create=True)
    for shown in (repr(database), repr(database.storage), str(database.storage.engine), str(database.lock)):
        assert PASSWORD not in shown


def test_which_errors_pass_by_themselves() -> None:
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    wrapped = optuna.exceptions.StorageInternalError("commit")
    wrapped.__cause__ = OperationalError("SELECT 1", {}, lost)
    for error in (lost, wrapped, psycopg.errors.AdminShutdown("x"), sqlite3.OperationalError("database is locked")):
        assert is_outage(error)
    for other in (
        psycopg.errors.DiskFull("could not extend file"),
        psycopg.errors.UniqueViolation("x"),
        sqlite3.OperationalError("no such table: x"),
        sqlite3.DatabaseError("database disk image is malformed"),
        KeyError("x"),
    ):
        assert not is_outage(other)
    try:
        try:
            raise lost
        except psycopg.Error:
            {}["a mistake of ours while an outage was handled"]
    except KeyError as error:
        mistake = error
    assert not is_outage(mistake)
    starting = psycopg.OperationalError('server at "h" failed: FATAL:  the database system is starting up')
    assert is_starting(starting)
    assert reason_of(starting) == "the database system is starting up"
    assert not is_starting(psycopg.OperationalError("connection refused"))


def test_the_reason_is_the_last_thing_that_the_driver_said() -> None:
    refused = psycopg.OperationalError('connection to server at "h" failed: Connection refused')
    refused.__context__ = InvalidatePoolError()  # so SQLAlchemy asks anew after a dead connection
    refused.__context__.__context__ = psycopg.OperationalError("server closed the connection unexpectedly")
    wrapped = OperationalError("SELECT 1", {}, refused)
    assert reason_of(wrapped) == reason_of(refused) == "Connection refused"
    assert is_outage(wrapped)


def test_who_slept_through_all_patience_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages_module, "_SILENT_S", -1)
    reasons = ["a dead connection", "Connection refused"]

    def call() -> None:
        raise psycopg.OperationalError(reasons.pop(0))

    with pytest.raises(StorageLost, match="Connection refused"):
        Outages("test", patience_s=0.1, announce=lambda sentence: time.sleep(0.3)).call(call)


def test_calls_are_repeated_until_they_succeed_or_patience_ends() -> None:
    said: list[str] = []
    outages = Outages("test", announce=said.append, patience_s=30, settle_s=3600)
    n_failures = 4

    def call() -> str:
        nonlocal n_failures
        if n_failures:
            n_failures -= 1
            raise psycopg.OperationalError("away")
        return "done"

    assert outages.call(call) == "done"
    assert not outages.is_settled()
    assert said == []  # it was short
    n_failures = 10**9
    with pytest.raises(StorageLost, match="away"):
        Outages("test", patience_s=0.3).call(call)
    with pytest.raises(ZeroDivisionError):
        outages.call(lambda: 1 // 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "rest", "url"),
    [
        (["status", "--storage", "a://b", "--json"], ["status", "--json"], "a://b"),
        (["--storage=a://b?c=d", "x=1"], ["x=1"], "a://b?c=d"),
        (["--storage", "a", "--storage=b"], [], "b"),
        (["--storage"], ["--storage"], None),
        (["status", "--storage", "--study-name", "N"], ["status", "--storage", "--study-name", "N"], None),
        (["--storage-x", "y"], ["--storage-x", "y"], None),
    ],
)
def test_the_storage_is_taken_out_of_a_command_line(words: list[str], rest: list[str], url: str | None) -> None:
    assert without_storage(words) == (rest, url)


def test_files_and_commands_without_a_storage_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started again"))
    refusing = [name for name in COMMANDS if "--storage" not in options_of(name)]
    assert set(refusing) == set(NO_STORAGE)
    refused = [[name, "--storage", "postgresql://a"] for name in refusing]
    for words in (["status"], ["--storage", "sqlite:///x.db"], *refused):
        monkeypatch.setattr(sys, "argv", ["run_study.py", *words])
        hide_storage()


def test_no_url_of_several_stays_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], str]] = []
    monkeypatch.setattr(os, "execve", lambda _, words, environment: started.append((words, environment[STORAGE])))
    words = ["--storage", f"postgresql://u:{QUOTED}@h/d", "--storage", "sqlite:///x.db", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["run_study.py", *words])
    hide_storage()
    ((words, url),) = started
    assert (words[-1], url) == ("--quiet", "sqlite:///x.db")
    assert QUOTED not in " ".join(words)


def processes_of(group: int) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                yield folder


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.system
def test_a_planted_password_is_found_nowhere(postgres: PostgresServer, tmp_path: Path) -> None:
    """In no process list from the first moment that anything else could be seen, no file, no output, no row."""
    name = postgres.create_database()
    url = postgres.url(name)
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-X", "utf8", str(ROOT / "run_study.py"), *SEARCH, "--n-trials", "60", "--storage", url],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    own = Path(f"/proc/{process.pid}")
    deadline = time.monotonic() + 300
    ours = b""
    while (not ours or PASSWORD.encode() in ours) and time.monotonic() < deadline:
        ours = read(own / "cmdline")
    assert b"-X\0utf8\0" in ours, "the interpreter's options are kept"
    lines: dict[str, bytes] = {}
    environments: dict[str, bytes] = {}
    while process.poll() is None:
        for folder in processes_of(process.pid):
            line = read(folder / "cmdline")
            lines[folder.name] = lines.get(folder.name, b"") + line
            if line != ours:  # a fork that is not another program yet has the memory of the search
                environments[folder.name] = read(folder / "environ") or environments.get(folder.name, b"")
        time.sleep(0.02)
    text = (tmp_path / "output").read_text()
    assert process.returncode == 0, text
    assert len(environments) >= 3, "forkserver, resource tracker and trials"
    assert not [line for line in lines.values() if PASSWORD.encode() in line]
    assert not [lines[pid] for pid, environment in environments.items() if PASSWORD.encode() in environment]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".yaml" for path in files)
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    dump = ""
    with postgres.connect(name) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            dump += str(connection.execute(f'SELECT * FROM "{table}"').fetchall())  # type: ignore[call-overload]
    assert "synthetic_two_vs_rest" in dump
    assert PASSWORD not in dump
    assert PASSWORD not in postgres.log()


def test_a_row_that_is_damaged_while_its_trial_runs_is_a_sentence(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'studies.db'}", create=True)
    study = optuna.create_study(study_name="mine", storage=database.storage)

    def damage_it(trial: optuna.Trial) -> float:
        trial.set_user_attr(WORKER, [1, 2])
        return 0.0

    with pytest.raises(DamagedRow, match=r"trial 0: worker is \[1, 2\]"), database.guarded("mine"):
        study.optimize(damage_it, n_trials=1)
