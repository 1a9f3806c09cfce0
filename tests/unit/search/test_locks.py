"""The lock under which workers count and ask: it excludes everybody, and tells when it may have been lost."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from search.storage import advisory_lock
from search.storage.advisory_lock import AdvisoryLock
from search.storage.locks import LocalLock
from search.storage.outages import Outages, StorageLost
from tests.helpers.postgres import PostgresServer

HOLD_FILE = """
import sys
from pathlib import Path
from search.storage.locks import LocalLock
from search.storage.outages import Outages
with LocalLock(Path(sys.argv[1]), Outages("test")):
    print("held", flush=True)
    sys.stdin.read()
"""
Make = Callable[..., AdvisoryLock]


@pytest.fixture
def database(postgres_url: str) -> str:
    name = make_url(postgres_url).database
    assert name is not None
    return name


@pytest.fixture
def make_lock(postgres: PostgresServer, database: str) -> Make:
    """A lock with a connection of its own, as each worker has one."""

    def make(**outages: object) -> AdvisoryLock:
        return AdvisoryLock(lambda: postgres.connect(database), Outages("test", **outages))  # type: ignore[arg-type]

    return make


def in_background(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def is_free(lock: AdvisoryLock, within_s: float = 60) -> bool:
    thread = in_background(lock.acquire)
    thread.join(within_s)  # a connection has to be made first
    if thread.is_alive():
        return False
    lock.release()
    return True


def test_an_advisory_lock_excludes_others_until_it_is_released(make_lock: Make) -> None:
    one, other = make_lock(), make_lock()
    one.acquire()
    thread = in_background(other.acquire)
    thread.join(0.5)
    assert thread.is_alive()
    one.release()
    thread.join(60)
    assert not thread.is_alive()
    assert not one.was_lost
    other.release()
    other.release()
    with one, pytest.raises(AssertionError, match="not reentrant"):
        one.acquire()
    assert is_free(other)


def test_waiting_goes_on_beyond_the_time_after_which_it_looks_up(
    make_lock: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advisory_lock, "LOOK_UP_S", 0.1)
    one, other = make_lock(), make_lock()
    one.acquire()
    thread = in_background(other.acquire)
    thread.join(1)
    assert thread.is_alive()
    one.release()
    thread.join(60)
    assert not thread.is_alive()


def test_another_database_has_another_lock(postgres: PostgresServer, make_lock: Make) -> None:
    elsewhere = postgres.create_database()
    with make_lock():
        assert is_free(AdvisoryLock(lambda: postgres.connect(elsewhere), Outages("test")))


def test_a_lost_connection_is_a_lost_lock(postgres: PostgresServer, make_lock: Make, database: str) -> None:
    one, other = make_lock(), make_lock()
    one.acquire()
    postgres.drop_connections(database)
    assert is_free(other)
    one.release()
    assert one.was_lost
    with one:
        assert not is_free(other, within_s=0.5)
    assert not one.was_lost


def test_a_holder_that_sleeps_stops_nobody_for_ever_and_learns_of_it(
    make_lock: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advisory_lock, "_LONGEST_HOLD_S", 1)
    one, other = make_lock(), make_lock()
    one.acquire()
    monkeypatch.setattr(advisory_lock, "_LONGEST_HOLD_S", 300)  # we may be held up as well
    other.acquire()
    assert longest_rest(other) == "5min"
    one.release()
    assert one.was_lost
    other.release()
    assert not other.was_lost
    assert longest_rest(other) == "0"  # without the lock a connection may rest for as long as a trial takes


def longest_rest(lock: AdvisoryLock) -> object:
    row = lock._open[0].execute("SELECT current_setting('idle_session_timeout')").fetchone()
    assert row is not None
    return row[0]


def test_it_is_acquired_after_an_outage(postgres: PostgresServer, make_lock: Make) -> None:
    one = make_lock()
    with one:
        pass
    postgres.stop()
    thread = in_background(one.acquire)
    try:
        thread.join(0.5)
        assert thread.is_alive()
    finally:
        postgres.start()
    thread.join(60)
    assert not thread.is_alive()
    one.release()
    assert not one.was_lost


def test_who_is_interrupted_waits_for_nobody(make_lock: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisory_lock, "LOOK_UP_S", 0.1)
    one, other = make_lock(), make_lock(is_interrupted=lambda: True)
    with one, pytest.raises(StorageLost, match="Stopped while another worker held the lock"):
        other.acquire()


def test_a_lock_that_cannot_be_had_leaves_no_connection_behind() -> None:
    def refuse() -> "psycopg.Connection[tuple[object, ...]]":
        raise psycopg.OperationalError("refused")

    lock = AdvisoryLock(refuse, Outages("test", patience_s=0))
    with pytest.raises(StorageLost, match="refused"):
        lock.acquire()
    lock.release()
    assert not lock.was_lost


def test_a_local_lock_excludes_other_processes_and_is_free_when_they_die(tmp_path: Path) -> None:
    path = tmp_path / "ä studies.db.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_FILE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = LocalLock(path, Outages("test"))
    thread = in_background(lambda: (lock.acquire(), lock.release())[0])
    thread.join(0.3)
    assert thread.is_alive()
    holder.kill()
    holder.communicate()
    thread.join(60)
    assert not thread.is_alive()
    assert not lock.was_lost


def test_who_is_interrupted_does_not_wait_for_a_file_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder may be suspended: whoever waited for it was deaf to SIGTERM."""
    monkeypatch.setattr(advisory_lock, "LOOK_UP_S", 0.1)
    one = LocalLock(tmp_path / "lock", Outages("test"))
    other = LocalLock(tmp_path / "lock", Outages("test", is_interrupted=lambda: True))
    with one, pytest.raises(StorageLost, match="Stopped while another worker held the lock"):
        other.acquire()
