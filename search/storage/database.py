"""The studies' database, opened so that several processes can, and the lock that makes budgets exact."""

import contextlib
import logging
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import URL

from datasets.common.errors import UserError
from search.machine.filesystems import network_kind
from search.machine.limits import causes
from search.storage.attributes import DamagedRow
from search.storage.lease_policy import USUAL_LEASE, LeasePolicy
from search.storage.locks import LocalLock, Lock
from search.storage.outages import (
    PATIENCE_S,
    Outages,
    StorageLost,
    StorageRefused,
    explained,
    is_starting,
    refusal,
)
from search.storage.remedies import is_database_error
from search.storage.resilient import ResilientStorage
from search.storage.rows.reading import is_gone
from search.storage.schema import complete, require
from search.storage.url import parse_url, secrets_of, sqlite_path, without_secrets

_SQLITE_BUSY_TIMEOUT_S = 10
_START_PATIENCE_S = 60
# A dead connection has to be noticed, and a new one found, before the lease expires.
_POSTGRES = {
    "application_name": "flipsearch",
    "client_encoding": "utf8",  # so that a database of another encoding says itself what it cannot hold
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@dataclass(frozen=True, kw_only=True)
class Database:
    """An open storage. `name` is its URL without the password, `lock` excludes all other workers."""

    storage: ResilientStorage
    name: str
    lock: Lock
    lease: LeasePolicy = USUAL_LEASE
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def is_settled(self) -> bool:
        """Whether every live worker has had time to send a heartbeat since the last outage."""
        return self.storage.outages.is_settled()

    @contextlib.contextmanager
    def guarded(self, study: str, exit_status: Callable[[], int] = lambda: 0) -> Iterator[None]:
        """Around all that works on a study: a lost database or a deleted study ends it in one sentence.

        Optuna wraps what goes wrong within a trial in errors of its own making, so the cause is looked for below them.

        Raises:
            UserError: The study was deleted, a row of it was damaged, or the database refuses its work (a full disk).
            StorageLost: The database did not come back; `exit_status` is that of a signal that ended the waiting.
        """
        try:
            yield
        except Exception as error:
            links = [*causes(error)]
            lost = next((link for link in links if isinstance(link, StorageLost)), None)
            refused = next((link for link in links if isinstance(link, StorageRefused)), None)
            failed = next((link for link in links if is_database_error(link)), None)
            unreadable = next((link for link in links if isinstance(link, DamagedRow)), None)
            if lost is not None:
                lost.exit_status = exit_status() or lost.exit_status
                raise lost from None
            if isinstance(error, UserError) and error is not refused:
                raise
            if any(map(is_gone, links)) or not self.has(study):
                raise UserError(
                    f"Study {study!r} was deleted from {self.name} meanwhile: repeat the command to begin it anew."
                ) from None
            if refused is not None:
                raise refused from None
            if failed is not None:
                raise refusal(failed, self.name, self.secrets) from None
            if unreadable is not None:
                raise unreadable from None
            raise

    def has(self, study: str) -> bool:
        """Whether it holds a study of that name; true where that cannot be told now."""
        try:
            return study in self.storage.study_names()
        except Exception:  # another error has just been raised; this question is only to explain it
            return True


def say(sentence: str) -> None:
    """Print it on standard error."""
    print(sentence, file=sys.stderr, flush=True)


def open_database(
    url: str,
    *,
    create: bool,
    announce: Callable[[str], None] = say,
    is_interrupted: Callable[[], bool] = lambda: False,
    patience_s: float = PATIENCE_S,
    lease: LeasePolicy = USUAL_LEASE,
) -> Database:
    """Open the database at an SQLAlchemy URL; its schema is created under a lock.

    Args:
        url: For example `sqlite:///runs/studies.db`.
        create: Whether a missing SQLite file, and missing tables, are made.
        announce: Told of outages.
        is_interrupted: Once true, nobody waits for the database any longer.
        patience_s: How long a call waits for a database that was there before.
        lease: How long a worker may be silent.

    Raises:
        UserError: The URL is malformed, its driver is missing, the database does not answer, is of another
            Optuna version, or is no database; passwords are never shown.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    for name in ("sqlalchemy.pool", "psycopg"):  # they log every connection that is lost, with a traceback
        logging.getLogger(name).setLevel(logging.CRITICAL)
    parsed = parse_url(url)
    path, secrets = sqlite_path(parsed), secrets_of(parsed)
    outages = Outages(
        without_secrets(parsed),
        secrets=secrets,
        announce=announce,
        is_interrupted=is_interrupted,
        patience_s=patience_s,
        settle_s=2 * lease.heartbeat_s,
        # A server may just have come back, and its other clients not yet; a file was there all the time.
        is_settled=path is not None,
    )
    starting = Outages(
        outages.name,
        secrets=secrets,
        announce=announce,
        is_interrupted=is_interrupted,
        patience_s=_START_PATIENCE_S,
    )
    with explained(outages.name, secrets):
        if path is not None:
            storage, lock = _open_sqlite(parsed, path, outages, lease, create=create)
        else:
            storage, lock = starting.call(lambda: _open_postgres(parsed, outages, lease, create=create), is_starting)
    return Database(storage=storage, name=outages.name, lock=lock, lease=lease, secrets=secrets)


def _open_sqlite(
    url: URL, path: Path, outages: Outages, lease: LeasePolicy, *, create: bool
) -> tuple[ResilientStorage, Lock]:
    if not create and not path.exists():
        raise UserError(f"There is no study database {path}: run a search first, or name another with --storage.")
    kind = network_kind(path)
    if kind is not None:
        raise UserError(
            f"The storage {path} is on a network file system ({kind}), where SQLite loses data: name a file on a "
            "local disk, or a Postgres database as in --storage postgresql+psycopg://user@host/name."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.resolve()  # the same by whatever link it is named
    lock = LocalLock(file.with_name(f"{file.name}.lock"), outages)
    with lock:
        _use_write_ahead_log(path)
        arguments = {"connect_args": {"timeout": _SQLITE_BUSY_TIMEOUT_S}}
        storage = _open(url, outages, lease, arguments, create=create)

    # With a write-ahead log this loses no committed trial when a process dies, and saves a disk flush a write.
    @event.listens_for(storage.engine, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()
    return storage, lock


def _open_postgres(url: URL, outages: Outages, lease: LeasePolicy, *, create: bool) -> tuple[ResilientStorage, Lock]:
    # Optuna writes heartbeats in the time zone of the connection: machines would misread each other's by hours.
    os.environ["PGTZ"] = "UTC"
    given = {key: value for key, value in _POSTGRES.items() if key not in url.query}
    arguments = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True, "connect_args": given}

    import psycopg  # heavy, and SQLite does without it

    from search.storage.advisory_lock import AdvisoryLock

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        positional, named = url.get_dialect()().create_connect_args(url)
        return psycopg.connect(*positional, **{**named, **given})

    lock = AdvisoryLock(connect, outages)
    if create:
        connect().close()  # the lock would wait for a database that there never was
    with lock if create else contextlib.nullcontext():
        return _open(url, outages, lease, arguments, create=create), lock


def _open(
    url: URL, outages: Outages, lease: LeasePolicy, arguments: dict[str, Any], *, create: bool
) -> ResilientStorage:
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments["connect_args"])
    if create:
        complete(engine, outages.name)
    else:
        with engine.connect() as connection:
            require(connection, outages.name)
    engine.dispose()
    return ResilientStorage(
        url.render_as_string(hide_password=False),
        outages=outages,
        engine_kwargs=arguments,
        heartbeat_interval=lease.heartbeat_s,
        grace_period=lease.lease_s,
    )


def _use_write_ahead_log(path: Path) -> None:
    """Once per file and before anybody else opens it: a switch while others read ends in "database is locked"."""
    connection = sqlite3.connect(path, timeout=_SQLITE_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
