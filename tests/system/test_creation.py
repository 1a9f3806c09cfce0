"""A kill while the tables are made: the next call goes on, whenever it came and whichever version was killed."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from datasets.common.errors import UserError
from search.storage.database import open_database
from tests.helpers.answers import run_here
from tests.helpers.creation import (
    check_complete,
    in_another_process,
    open_and_die,
    role_of,
    send,
    statements_of_optuna,
)
from tests.helpers.postgres import PASSWORD, USER, PostgresServer
from tests.helpers.processes import ROOT

pytestmark = pytest.mark.timeout(900)
KINDS = ("sqlite", "postgres")
N_MOMENTS = 30  # besides a kill at every statement
NewUrl = Callable[[str], str]


@pytest.fixture
def new_url(tmp_path: Path, request: pytest.FixtureRequest) -> NewUrl:
    """Makes the URL of a fresh and empty database of a kind."""
    n_made = 0

    def make(kind: str) -> str:
        nonlocal n_made
        n_made += 1
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{n_made}.db"
        return role_of(request.getfixturevalue("postgres"))

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_statement(kind: str, new_url: NewUrl) -> None:
    n_statements, was_killed = 0, True
    while was_killed:
        url = new_url(kind)
        was_killed = open_and_die(url, n_statements)
        if was_killed:
            check_complete(url)
            n_statements += 1
    assert n_statements > 20


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kill_of_earlier_versions_left_is_completed(kind: str, new_url: NewUrl) -> None:
    """They committed one statement after the other."""
    statements = statements_of_optuna(new_url(kind))
    assert len(statements) > 16
    last = len(statements) - 1
    for n_sent in range(1, last + 1):
        url = new_url(kind)
        send(url, statements[:n_sent])
        if any("TABLE" in statement for statement in statements[:n_sent]):
            with pytest.raises(UserError, match=r"not complete \(.*\): `python run_study.py init"):
                open_database(url, create=False)
        check_complete(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user to be")
def test_a_kill_where_the_user_is_not_root() -> None:
    folder = Path(tempfile.mkdtemp(prefix="flipsearch-creation-"))  # pytest's own are closed to others
    try:
        os.chown(folder, 65534, 65534)
        for n_statements in range(0, 60, 4):
            url = f"sqlite:///{folder}/{n_statements}.db"
            open_and_die(url, n_statements, user=65534)
            assert in_another_process(lambda url=url: check_complete(url), user=65534) == 0
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def killed_init(tmp_path: Path, postgres: PostgresServer) -> Callable[[str, str, float], None]:
    """Starts the init command on a URL and kills it so many seconds after its first sign of life in the database."""

    def run(kind: str, url: str, after_s: float) -> None:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_study.py"), "init", "--storage", url],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        name = url.rpartition("/")[2]
        while process.poll() is None:
            if (tmp_path / name).exists() if kind == "sqlite" else postgres.n_connections(name):
                break
            time.sleep(0.002)
        time.sleep(after_s)
        process.kill()
        process.wait()

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(N_MOMENTS))
def test_a_kill_at_a_random_moment(
    kind: str, number: int, new_url: NewUrl, killed_init: Callable[[str, str, float], None], tmp_path: Path
) -> None:
    url = new_url(kind)
    killed_init(kind, url, random.Random(f"{kind} {number}").uniform(0.0, 0.3))
    answer = run_here("init", "--storage", url, cwd=tmp_path)
    assert answer.status == 0, answer
    assert "The tables stand in" in answer.out
    check_complete(url)


OTHERS = {
    "a column of another name": "CREATE TABLE studies (study_id int PRIMARY KEY, name varchar(512) NOT NULL)",
    "a column more": "CREATE TABLE studies (study_id int PRIMARY KEY, study_name varchar(512) NOT NULL, patient int)",
    "a column less": "CREATE TABLE version_info (version_info_id int PRIMARY KEY)",
    "a column of another type": "CREATE TABLE studies (study_id int PRIMARY KEY, study_name int NOT NULL)",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statement", OTHERS.values(), ids=OTHERS)
def test_somebody_elses_tables_are_refused_and_left_alone(kind: str, statement: str, new_url: NewUrl) -> None:
    url = new_url(kind)
    send(url, [statement])
    for create in (True, False):
        with pytest.raises(UserError, match=r"that are not of Optuna's making: name another database"):
            open_database(url, create=create)
    send(url, [f"DROP TABLE {statement.split()[2]}"])
    check_complete(url)  # nothing else was made


@pytest.mark.parametrize("kind", KINDS)
def test_another_programs_tables_beside_ours_are_no_hindrance(kind: str, new_url: NewUrl) -> None:
    url = new_url(kind)
    send(url, ["CREATE TABLE patients (name varchar(20))", *statements_of_optuna(new_url(kind))[:9]])
    open_database(url, create=True).storage.engine.dispose()
    open_database(url, create=False).storage.engine.dispose()


def test_a_type_of_somebody_elses_is_refused(new_url: NewUrl) -> None:
    url = new_url("postgres")
    send(url, ["CREATE TYPE trialstate AS ENUM ('guilty', 'not guilty')"])
    with pytest.raises(UserError, match="has a type trialstate that is not of Optuna's making"):
        open_database(url, create=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("create", [True, False])
def test_another_program_that_keeps_its_revision_the_same_way(kind: str, create: bool, new_url: NewUrl) -> None:
    url = new_url(kind)
    send(url, ["CREATE TABLE alembic_version (version_num varchar(32))", "INSERT INTO alembic_version VALUES ('1a2b')"])
    with pytest.raises(UserError, match=r"is another program's: its table alembic_version says 1a2b"):
        open_database(url, create=create)


EMPTIED = {
    "alembic_version": "not complete (alembic_version empty)",
    "version_info": "not complete (version_info empty)",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", EMPTIED)
def test_an_emptied_version_table_is_filled_again_by_init(
    kind: str, table: str, new_url: NewUrl, tmp_path: Path
) -> None:
    url = new_url(kind)
    check_complete(url)
    send(url, [f"DELETE FROM {table}"])
    refusal = run_here("status", "--storage", url, cwd=tmp_path).refusal()
    assert EMPTIED[table] in refusal
    assert "run_study.py init" in refusal
    assert run_here("init", "--storage", url, cwd=tmp_path).status == 0
    assert "next" in run_here("status", "--storage", url, cwd=tmp_path).out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tables", [["trial_heartbeats"], ["trial_heartbeats", "alembic_version"]])
@pytest.mark.parametrize("create", [True, False])
def test_a_table_that_was_lost_is_not_made_anew(kind: str, tables: list[str], create: bool, new_url: NewUrl) -> None:
    """A creation that was interrupted left no studies: with studies it is a loss."""
    url = new_url(kind)
    check_complete(url)
    send(url, [f"DROP TABLE {table}" for table in tables])
    with pytest.raises(UserError, match=r"has lost tables? trial_heartbeats.*: restore it from a copy"):
        open_database(url, create=create)


def test_two_that_make_the_tables_at_once_make_them_once(new_url: NewUrl, postgres: PostgresServer) -> None:
    """The server still ends the transaction of one who was killed: the next waits for that, and finds the tables."""
    url = new_url("postgres")
    name = url.rpartition("/")[2]
    with psycopg.connect(host="127.0.0.1", port=postgres.port, user=USER, password=PASSWORD, dbname=name) as first:
        first.execute("SELECT pg_advisory_xact_lock(%s)", [0x666C6970])
        pid = os.fork()
        if pid == 0:
            try:
                check_complete(url)
                os._exit(0)
            finally:
                os._exit(1)
        while _n_waiting(postgres, name) == 0:
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it did not wait"
            time.sleep(0.02)
        first.commit()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _n_waiting(postgres: PostgresServer, name: str) -> int:
    with postgres.connect("postgres") as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event = 'advisory'"
        row = connection.execute(query, [name]).fetchone()
    assert row is not None
    return int(str(row[0]))
