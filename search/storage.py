"""The studies' database, opened so that several processes can, and the lock that makes budgets exact."""

import contextlib
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from datasets.errors import UserError

LEASE_S = 20
"""A worker that is not heard of for so long has lost its trial."""
HEARTBEAT_S = 4
_SQLITE_BUSY_TIMEOUT_S = 60
_CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class Database:
    """An open storage. `name` is its URL without the password, `lock` excludes other processes of this machine."""

    storage: RDBStorage
    name: str
    lock: FileLock


def open_database(url: str, *, runs: Path, create: bool) -> Database:
    """Open the database at an SQLAlchemy URL; its schema is created under a lock.

    Args:
        url: For example `sqlite:///runs/studies.db`.
        runs: Where locks of databases without a file stand.
        create: Whether a missing SQLite file is made.

    Raises:
        UserError: The URL is malformed, its driver is missing, the database does not answer, is of another
            Optuna version, or is no database; passwords are never shown.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    parsed = parse_url(url)
    name = without_secrets(parsed)
    path = sqlite_path(parsed)
    if path is not None and not create and not path.exists():
        raise UserError(f"There is no study database {path}: run a search first, or name another with --storage.")
    lock_path = path.with_name(f"{path.name}.lock") if path else runs / "locks" / _digest(name)
    with _explained(name):
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path)
        with lock:
            if path is not None:
                _use_write_ahead_log(path)
            storage = _open(parsed, is_sqlite=path is not None)
    return Database(storage=storage, name=name, lock=lock)


def default_url(runs: Path) -> str:
    """The SQLite database below the runs directory."""
    return f"sqlite:///{runs / 'studies.db'}"


def parse_url(url: str) -> URL:
    """The URL, checked.

    Raises:
        UserError: It is malformed or names a database that is not known; it is not shown, for its password.
    """
    try:
        parsed = make_url(url)
        parsed.get_dialect()
        return parsed
    except NoSuchModuleError:
        known = "sqlite:///PATH, postgresql+psycopg://USER@HOST/NAME"
        raise UserError(
            f"The storage URL's {url.partition('://')[0]!r} is no database that is known here: expected {known}."
        ) from None
    except (SQLAlchemyError, ValueError, ImportError):
        scheme = url.partition("://")[0] if "://" in url else "without a scheme"
        raise UserError(
            f"The storage URL ({scheme}) is malformed: expected something like sqlite:///runs/studies.db "
            "or postgresql+psycopg://user@host/name."
        ) from None


def without_secrets(url: URL) -> str:
    """The URL as it may be shown: a password can stand in its query as well."""
    query = {key: "***" if "pass" in key.lower() else value for key, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def sqlite_path(url: URL) -> Path | None:
    """The file of an SQLite URL, as an absolute path; None for other databases.

    Raises:
        UserError: It is a database in memory, a directory or another kind of file.
    """
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise UserError("A study in memory is lost when the search ends: name a file, as in sqlite:///runs/studies.db.")
    path = Path(url.database).absolute()
    if path.is_dir():
        raise UserError(f"The storage {path} is a directory: name a file in it, as in sqlite:///{path}/studies.db.")
    if path.is_file() and path.stat().st_size and not _starts_like_sqlite(path):
        raise UserError(f"The storage {path} is no SQLite database: name another file.")
    return path


def _starts_like_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _use_write_ahead_log(path: Path) -> None:
    """Once per file and before anybody else opens it: a switch while others read ends in "database is locked"."""
    connection = sqlite3.connect(path, timeout=_SQLITE_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _open(url: URL, *, is_sqlite: bool) -> RDBStorage:
    if is_sqlite:
        arguments = {"connect_args": {"timeout": _SQLITE_BUSY_TIMEOUT_S}}
    else:
        arguments = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True}  # type: ignore[dict-item]
        if url.get_backend_name() == "postgresql":
            arguments["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    storage = RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs=arguments,
        heartbeat_interval=HEARTBEAT_S,
        grace_period=LEASE_S,
    )
    if is_sqlite:
        # With a write-ahead log this loses no committed trial when a process dies, and saves a disk flush a write.
        @event.listens_for(storage.engine, "connect")
        def _(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()
    return storage


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the database layers raise into a sentence without a password in it."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"The storage {name} needs a database driver that is not installed: {_first(error)}.") from None
    except RuntimeError as error:  # Optuna's word on a schema of another version
        raise UserError(f"The storage {name} cannot be used: {_first(error)}") from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        raise UserError(f"The storage {name} does not answer: {_first(cause)}.") from None
    except OSError as error:
        raise UserError(f"The storage {name} cannot be written: {error.strerror} ({error.filename}).") from None


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] + ".lock"


def environment_url() -> str | None:
    """The storage named by the environment."""
    return os.environ.get("FLIPSEARCH_STORAGE")
