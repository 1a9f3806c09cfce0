"""Databases that are damaged, refuse us or hold rows of somebody else's: each command says so in a sentence.

A table of what is wrong with a database and of the commands that open one. A command passes where the fault is none of
its concern; it never ends in a traceback.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
import types
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.trial import TrialState

from datasets.common.errors import UserError
from search.cli.studies import dashboard, watch
from search.request import inputs
from search.storage import database as storage
from search.storage.read_only import open_to_look
from search.study.control import set_control
from search.study.study import find_study
from tests.helpers.answers import Answer, run_here
from tests.helpers.creation import in_another_process
from tests.helpers.dashboards import running_dashboard
from tests.helpers.postgres import PASSWORD, PostgresServer
from tests.helpers.study_fixtures import FinishedStudy

pytestmark = pytest.mark.timeout(900)
STUDY = "synthetic_two_vs_rest-ridge"
COMMANDS = {
    "status": ("status",),
    "status of one": ("status", "--study-name", STUDY, "--json"),
    "watch": ("status", "--watch", "--study-name", STUDY),
    "pause": ("pause", "--study-name", STUDY),
    "drain": ("drain", "--study-name", STUDY),
    "resume": ("resume", "--study-name", STUDY),
    "requeue": ("requeue", "--study-name", STUDY, "2"),
    "report": ("report", "--study-name", STUDY),
    "compare": ("compare", "--task", "synthetic_two_vs_rest"),
    "dashboard": ("dashboard", "--port", "0"),
    "doctor": ("doctor", "--task", "synthetic_two_vs_rest"),
    "confirm": ("confirm", f"exported/{STUDY}.yaml", "--top-k", "2", "--seeds", "1"),
    "search": (),
    "init": ("init",),
}
Break = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits, serves or looks on for long."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.delenv("FLIPSEARCH_STORAGE", raising=False)
    monkeypatch.setattr(watch, "time", types.SimpleNamespace(sleep=leave))
    monkeypatch.setattr(dashboard._Server, "serve_forever", leave)
    monkeypatch.setattr(storage, "_SQLITE_BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(storage, "_START_PATIENCE_S", 0.2)
    monkeypatch.setattr(inputs, "_PATIENCE_S", 0.2)
    monkeypatch.setattr("search.workers.child.prepare_children", lambda: None)  # nothing here gets as far as training


@pytest.fixture
def folder(finished_study: FinishedStudy, tmp_path: Path) -> Path:
    """A copy of the finished study, its database in one file."""
    copy = tmp_path / "copy"
    shutil.copytree(finished_study.folder, copy)
    database = copy / "runs" / "studies.db"
    fail_one(f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)
    return copy


def fail_one(url: str) -> None:
    """Add a trial that failed: there is something to requeue."""
    database = storage.open_database(url, create=False)
    study = optuna.load_study(study_name=STUDY, storage=database.storage)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    database.storage.engine.dispose()


def ask(name: str, url: str, study: FinishedStudy, folder: Path) -> Answer:
    """What a command answers; an exception that leaves it is a traceback."""
    words = (*study.command, "--n-trials", "2") if name == "search" else COMMANDS[name]
    answer = run_here(*words, "--storage", url, cwd=folder)
    assert "Traceback" not in answer.out + answer.err, answer
    assert PASSWORD not in answer.out + answer.err
    return answer


def damage(problem: str, command: str) -> str:
    """What is said of a row that does not hold what it should."""
    if command == "doctor":
        return f"study {STUDY}: {problem}"
    return f"Study '{STUDY}' in the database was damaged, or written by another program ({problem}"


def check(name: str, answer: Answer, sentence: str, remedy: str, passes: tuple[str, ...]) -> None:
    """The command refuses in a sentence with its remedy, the doctor has a problem, or it is of the ones that pass."""
    said = answer.err + answer.out
    if name in passes:
        assert answer.status == 0, (name, answer)
        return
    assert sentence in said, (name, answer)
    assert remedy in said, (name, answer)
    if name == "doctor":
        assert answer.status == (0 if "warning  database" in answer.out else 1), answer
        return
    assert answer.status in (1, 2), (name, answer)
    assert [line[:7] for line in answer.err.splitlines() if line[:7] == "error: "] == ["error: "], (name, answer)


def sql(*statements: str) -> Break:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return change


def overwrite(path: Path) -> None:
    n_bytes = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4 * 4096)
        file.write(b"\7\1\2\3" * ((n_bytes - 8 * 4096) // 4))


def replace_by(make: Break) -> Break:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


_RESTORE = "restore it from a copy"
_INIT = "init --storage URL` adds what is missing"
_COMPLETING = ("search", "init")
FILES: dict[str, tuple[Break, str, str, tuple[str, ...]]] = {
    "a malformed image": (overwrite, "malformed", _RESTORE, ()),
    "a file cut to its half": (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed", _RESTORE, ()),
    "a file cut within a page": (lambda path: os.truncate(path, 3 * 4096 + 100), "malformed", _RESTORE, ()),
    "text": (lambda path: path.write_text("not a database " * 100), "is no SQLite database", "name another file", ()),
    "no bytes": (
        lambda path: path.write_bytes(b""),
        "has no studies yet",
        "run a search first",
        ("search", "init", "doctor"),
    ),
    "a directory": (replace_by(Path.mkdir), "is a directory", "name a file in it", ()),
    "a pipe": (replace_by(os.mkfifo), "is no file but", "name another file", ()),
    "a device": (replace_by(lambda path: path.symlink_to("/dev/null")), "is no file but", "name another file", ()),
    "no revision": (sql("DELETE FROM alembic_version"), "(alembic_version empty)", _INIT, _COMPLETING),
    "no version": (sql("DELETE FROM version_info"), "(version_info empty)", _INIT, _COMPLETING),
    "no table of studies": (sql("DROP TABLE studies"), "has lost table studies", _RESTORE, ()),
    "no table of heartbeats": (sql("DROP TABLE trial_heartbeats"), "has lost table trial_heartbeats", _RESTORE, ()),
    "no column of trials": (
        sql("ALTER TABLE trials DROP COLUMN datetime_start"),
        "trials.datetime_start",  # `init` looks for it, the others meet it
        _RESTORE,
        ("dashboard",),
    ),
}


ROWS = {
    "no JSON of a trial": (
        "UPDATE trial_user_attributes SET value_json = '{oops' WHERE trial_id = 2",
        "expected JSON",
    ),
    "JSON without an end": (
        f"UPDATE trial_user_attributes SET value_json = '{'[' * 100_000}' WHERE trial_id = 2",
        "expected JSON",
    ),
    "bytes that are no text": (
        "UPDATE trial_user_attributes SET value_json = CAST(x'ff22' AS TEXT) WHERE trial_id = 2",
        "expected JSON",
    ),
    "an unknown state": ("UPDATE trials SET state = 'ODD' WHERE trial_id = 2", "its state is ODD"),
    "a distribution of nobody's": (
        """UPDATE trial_params SET distribution_json = '{"name": "Odd", "attributes": {}}' WHERE trial_id = 2""",
        "its parameter",
    ),
    "a date in words": ("UPDATE trials SET datetime_start = 'yesterday' WHERE trial_id = 2", "yesterday"),
    "no value": ("DELETE FROM trial_values WHERE trial_id = 2", "expected one correlation"),
    "a value in words": ("UPDATE trial_values SET value = 'much' WHERE trial_id = 2", "much"),
    "a parameter in words": ("UPDATE trial_params SET param_value = 'much' WHERE trial_id = 2", "its parameter"),
    "a kind of value of nobody's": (
        "UPDATE trial_values SET value_type = 'ODD' WHERE trial_id = 2",
        "expected one correlation",
    ),
}


def restore(database: Path, content: bytes) -> None:
    for ending in ("", "-wal", "-shm"):
        path = database.with_name(database.name + ending)
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
    database.write_bytes(content)


@pytest.mark.parametrize("fault", FILES)
def test_a_broken_file(fault: str, finished_study: FinishedStudy, folder: Path) -> None:
    change, sentence, remedy, passes = FILES[fault]
    path = folder / "runs" / "studies.db"
    content = path.read_bytes()
    for name in COMMANDS:
        if (name, fault) == ("search", "no bytes"):
            continue  # it would train
        restore(path, content)
        change(path)
        check(name, ask(name, f"sqlite:///{path}", finished_study, folder), sentence, remedy, passes)


@pytest.mark.parametrize("fault", ROWS)
def test_a_row_that_optuna_cannot_read(fault: str, finished_study: FinishedStudy, folder: Path) -> None:
    """The study and the trial are named."""
    statement, reason = ROWS[fault]
    path = folder / "runs" / "studies.db"
    sql(statement)(path)
    for name in COMMANDS:
        answer = ask(name, f"sqlite:///{path}", finished_study, folder)
        if name == "compare":
            assert (answer.status, STUDY in answer.err, reason in answer.err) == (0, True, True)
            continue
        check(name, answer, damage("trial 1: ", name), reason, ("init", "dashboard"))


def test_a_trial_without_a_number(finished_study: FinishedStudy, folder: Path) -> None:
    path = folder / "runs" / "studies.db"
    sql("UPDATE trials SET number = NULL WHERE trial_id = 2")(path)
    for name in ("status of one", "requeue", "doctor", "search"):
        answer = ask(name, f"sqlite:///{path}", finished_study, folder)
        check(name, answer, damage("trial without a number: ", name), "its number is null", ())


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE study_user_attributes SET value_json = 'oops' WHERE study_id = 1", "expected JSON"),
        ("INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (1, 'x', '{')", "expected JSON"),
        ("UPDATE study_directions SET direction = 'UP' WHERE study_id = 1", "'UP' is not among"),
        ("UPDATE trials SET state = 'ODD' WHERE trial_id = 1", "its state is ODD"),
    ],
)
def test_a_study_that_cannot_be_read_hides_no_other(
    statement: str, reason: str, finished_study: FinishedStudy, folder: Path
) -> None:
    path = folder / "runs" / "studies.db"
    url = f"sqlite:///{path}"
    database = storage.open_database(url, create=False)
    study = optuna.create_study(study_name="another", storage=database.storage, direction="maximize")
    study.add_trial(optuna.create_trial(value=0.25))
    database.storage.engine.dispose()
    sql(statement)(path)
    answer = run_here("status", "--storage", url, cwd=folder)
    assert answer.status == 1
    assert "another" in answer.out
    assert "0.2500" in answer.out
    assert answer.err.startswith(f"error: Study '{STUDY}' is left out: ")
    assert reason in answer.err
    assert run_here("status", "--storage", url, "--study-name", "another", cwd=folder).status == 0
    assert run_here("drain", "--storage", url, "--study-name", "another", cwd=folder).status == 0
    doctor = run_here("doctor", "--task", "synthetic_two_vs_rest", "--storage", url, cwd=folder)
    lines = [line for line in doctor.out.splitlines() if line.startswith("problem")]
    assert any(line.startswith(f"problem  study {STUDY}: ") and reason in line for line in lines), doctor
    assert compare_says(url, folder, STUDY)


def compare_says(url: str, folder: Path, name: str) -> bool:
    answer = run_here("compare", "--task", "synthetic_two_vs_rest", "--storage", url, cwd=folder)
    return answer.status == 0 and answer.err.startswith(f"warning: Study {name!r}")


def test_the_dashboard_shows_the_others_and_says_why_not_this_one(folder: Path) -> None:
    """In a process of its own: a traceback on its standard error fails the test."""
    path = folder / "runs" / "studies.db"
    database = storage.open_database(f"sqlite:///{path}", create=False)
    for name in ("no trials", "no attributes"):
        study = optuna.create_study(study_name=name, storage=database.storage)
        study.add_trial(optuna.create_trial(value=1.0))
        study.set_user_attr("a", 1)
    database.storage.engine.dispose()
    sql(
        "UPDATE trials SET state = 'ODD' WHERE study_id = 2",
        "UPDATE study_user_attributes SET value_json = 'oops' WHERE study_id = 3",
    )(path)
    with running_dashboard(folder) as shown:
        assert shown.studies() == [STUDY, "no trials"]
        assert shown.ask("api/studies/1").status == 200
        reply = shown.ask("api/studies/2")
        assert reply.status == 503
        assert "Study 'no trials' in the database was damaged" in reply.json()["reason"]


@pytest.mark.parametrize("what", ["the file", "the folder"])
def test_what_may_only_be_read(what: str, folder: Path) -> None:
    """As another user than root, to whom everything is open; that one may not even import, so no command is run."""
    place = Path(tempfile.mkdtemp(prefix="flipsearch-readonly-"))  # pytest's own folders are closed to others
    try:
        shutil.copytree(folder, place / "copy")
        path = place / "copy" / "runs" / "studies.db"
        place.chmod(0o755)
        for found in (place, *place.rglob("*")):
            found.chmod(0o777 if found.is_dir() else 0o666)
        path.chmod(0o444)
        if what == "the folder":
            path.parent.chmod(0o555)
            (path.parent / "studies.db.lock").unlink(missing_ok=True)

        def work() -> None:
            os.chdir("/")  # where this user may be
            url = f"sqlite:///{path}"
            if what == "the folder":
                with pytest.raises(UserError, match=r"cannot be written \(.*\): let this user write there"):
                    storage.open_database(url, create=False)
                with pytest.raises(UserError, match="cannot be written, and SQLite needs a file of its own"):
                    open_to_look(url, is_writable=False)
                return
            open_to_look(url, is_writable=False)
            study = find_study(storage.open_database(url, create=False), STUDY)
            assert len(study.trials) == 3
            with pytest.raises(UserError, match=r"readonly database\): let this user write the file and its folder"):
                set_control(study, "drain")

        assert in_another_process(work, 65534 if os.geteuid() == 0 else None) == 0
    finally:
        shutil.rmtree(place)


READING = ("status", "status of one", "watch", "report", "compare", "dashboard", "confirm", "init")
ROLES: dict[str, tuple[list[str], str, str, tuple[str, ...]]] = {
    "a role that may only read": (
        ["ALTER ROLE {role} SET default_transaction_read_only = on"],
        "read-only transaction",
        "name a role that may write and, of several servers, the primary one",
        READING,
    ),
    "a database that may only be read": (
        ["ALTER DATABASE {name} SET default_transaction_read_only = on"],
        "read-only transaction",
        "name a role that may write and, of several servers, the primary one",
        READING,
    ),
    "a role that may select": (
        ["REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM {role}"],
        "permission denied for table",
        "grant the role what it lacks",
        READING,
    ),
    "a table that the role may not read": (
        ["REVOKE ALL ON trials FROM {role}"],
        "permission denied for table trials",
        "grant the role what it lacks",
        ("dashboard", "init"),
    ),
    "a version table that the role may not read": (
        ["REVOKE ALL ON alembic_version FROM {role}"],
        "permission denied for table alembic_version",
        "grant the role what it lacks",
        (),
    ),
    "a role with no connection left": (
        ["ALTER ROLE {role} CONNECTION LIMIT 0"],
        "too many connections for role",
        "end what else uses this role, or raise its limit with `ALTER ROLE`",
        (),
    ),
    "a database with no connection left": (
        ["ALTER DATABASE {name} CONNECTION LIMIT 0"],
        "too many connections for database",
        "end what else uses it, or raise its limit with `ALTER DATABASE`",
        (),
    ),
    "a role that may not log in": (
        ["ALTER ROLE {role} NOLOGIN"],
        "is not permitted to log in",
        "let the role log in",
        (),
    ),
    "a database that takes no connections": (
        ["ALTER DATABASE {name} ALLOW_CONNECTIONS false"],
        "not currently accepting connections",
        "let it accept them",
        (),
    ),
    "a database that the role may not connect to": (
        ["REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"],
        "permission denied for database",
        "grant the role what it lacks",
        (),
    ),
    "a password that is over": (
        ["ALTER ROLE {role} VALID UNTIL '2000-01-01'"],
        "password authentication failed",
        "check its user and password",
        (),
    ),
    "no column of trials": (
        ["ALTER TABLE trials DROP COLUMN datetime_start"],
        "column trials.datetime_start",
        _RESTORE,
        ("dashboard",),
    ),
    "no table of heartbeats": (
        ["DROP TABLE trial_heartbeats"],
        "has lost table trial_heartbeats",
        _RESTORE,
        (),
    ),
    "no JSON of a trial": (
        ["UPDATE trial_user_attributes SET value_json = 'oops'"],
        "trial 0: ",
        "`doctor --repair`",
        ("compare", "dashboard", "init"),
    ),
    "a state of nobody's": (
        ["ALTER TYPE trialstate ADD VALUE 'ODD'", "UPDATE trials SET state = 'ODD' WHERE number = 1"],
        "trial 1: its state is ODD",
        "`doctor --repair`",
        ("compare", "dashboard", "init"),
    ),
}


@pytest.fixture(scope="module")
def template(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, finished_study: FinishedStudy) -> str:
    """The finished study once more, in Postgres."""
    name = postgres.create_database()
    folder = tmp_path_factory.mktemp("template")
    answer = run_here(*finished_study.command, "--n-trials", "2", "--storage", postgres.url(name), cwd=folder)
    assert answer.status == 0, answer
    fail_one(postgres.url(name))
    return name


@pytest.mark.parametrize("fault", ROLES)
def test_a_server_that_refuses(
    fault: str, postgres: PostgresServer, template: str, finished_study: FinishedStudy, folder: Path
) -> None:
    statements, sentence, remedy, passes = ROLES[fault]
    url, name = role_on_a_copy(postgres, template)
    for statement in statements:
        with postgres.connect("postgres" if "ALTER DATABASE" in statement else name) as connection:
            connection.execute(statement.format(role=f"role_{name}", name=name))  # type: ignore[call-overload]
    for command in COMMANDS:
        if command == "confirm" and command in passes:
            continue  # it would train
        check(command, ask(command, url, finished_study, folder), sentence, remedy, passes)


def role_on_a_copy(postgres: PostgresServer, template: str) -> tuple[str, str]:
    """The URL of a plain role that may work on a copy of a database, and the copy's name."""
    name = f"copy_{uuid.uuid4().hex[:12]}"
    with postgres.connect("postgres") as connection:
        # No database is copied that somebody is connected to, as who made the template may still be.
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", (template,)
        )
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[call-overload]
    role = f"role_{name}"
    with postgres.connect(name) as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ):
            connection.execute(statement)  # type: ignore[call-overload]
    return f"postgresql+psycopg://{role}:{PASSWORD}@127.0.0.1:{postgres.port}/{name}", name


@contextlib.contextmanager
def every_connection(postgres: PostgresServer, name: str) -> Iterator[None]:
    """Hold every connection that the server allows, and see them gone afterwards.

    Those that tests before left open are ended first: closed by chance, one would leave its place to whoever comes. A
    server counts a connection until it has ended it, in its own time.
    """
    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with contextlib.ExitStack() as held, postgres.connect(name) as first:
        first.execute(f"SELECT pg_terminate_backend(pid) {others}")  # type: ignore[call-overload]
        row = first.execute("SHOW max_connections").fetchone()
        assert row is not None
        n_left = int(str(row[0])) - 1
        while n_left:
            try:
                held.enter_context(closing(postgres.connect(name)))
                n_left -= 1
            except psycopg.OperationalError:
                time.sleep(0.02)
        yield
    while postgres.n_connections(name):
        time.sleep(0.02)


@pytest.mark.parametrize("words", [("status",), ("drain", "--study-name", STUDY), ("init",)])
def test_a_server_without_a_connection_left(
    words: tuple[str, ...], postgres: PostgresServer, template: str, tmp_path: Path
) -> None:
    url, name = role_on_a_copy(postgres, template)
    with every_connection(postgres, name):
        refusal = run_here(*words, "--storage", url, cwd=tmp_path)
    assert refusal.status == 1, refusal
    assert "too many clients" in refusal.err
    assert "end some of the server's connections, or raise its max_connections" in refusal.err
    assert run_here("status", "--storage", url, cwd=tmp_path).status == 0, "and then it goes on"


def test_a_statement_that_takes_too_long(postgres: PostgresServer, template: str, tmp_path: Path) -> None:
    url, name = role_on_a_copy(postgres, template)
    with postgres.connect(name) as connection:
        connection.execute(f"ALTER ROLE role_{name} SET statement_timeout = '200ms'")  # type: ignore[call-overload]
        connection.autocommit = False
        connection.execute("LOCK TABLE studies")
        refusal = run_here("status", "--storage", url, cwd=tmp_path).refusal()
    assert "canceling statement due to statement timeout" in refusal
    assert "raise the statement_timeout of its role or database" in refusal


def test_a_server_without_ssl(postgres: PostgresServer, template: str, tmp_path: Path) -> None:
    refusal = run_here("status", "--storage", f"{postgres.url(template)}?sslmode=require", cwd=tmp_path).refusal()
    assert "does not support SSL" in refusal
    assert "switch on SSL on the server, or take sslmode out of the URL" in refusal


def test_a_database_that_cannot_hold_a_name(postgres: PostgresServer, tmp_path: Path) -> None:
    name = f"latin_{uuid.uuid4().hex[:8]}"
    with postgres.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")  # type: ignore[call-overload]
    url = postgres.url(name)
    assert run_here("init", "--storage", url, cwd=tmp_path).status == 0
    database = storage.open_database(url, create=False)
    with pytest.raises(UserError, match=r"create the database anew with `createdb --encoding=UTF8`"):
        optuna.create_study(study_name="日本", storage=database.storage)


@pytest.mark.parametrize(
    ("statements", "lost"),
    [
        (["ALTER TABLE trials DROP COLUMN datetime_start"], "column trials.datetime_start"),
        (["ALTER TABLE trial_heartbeats DROP COLUMN heartbeat"], "column trial_heartbeats.heartbeat"),
        (
            ["ALTER TABLE trials DROP COLUMN datetime_start", "ALTER TABLE trial_values DROP COLUMN value"],
            "columns trials.datetime_start, trial_values.value",
        ),
    ],
)
def test_init_names_the_columns_that_are_lost(statements: list[str], lost: str, folder: Path) -> None:
    path = folder / "runs" / "studies.db"
    sql(*statements)(path)
    answer = run_here("init", cwd=folder)
    assert (
        answer.refusal()
        == f"error: The storage sqlite:///runs/studies.db has lost {lost}: {_RESTORE}, or name another.\n"
    )
    assert answer.out == "", "it does not say that the tables stand"
