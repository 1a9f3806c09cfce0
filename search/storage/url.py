"""Storage URLs: which are taken, how they are shown, and what in them is secret."""

import os
import sqlite3
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from datasets.common.errors import UserError

_EXPECTED = "sqlite:///runs/studies.db or postgresql+psycopg://user@host/name"
_POSTGRES = ("postgres", "postgresql")
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
_SHOWN = (
    "host",
    "port",
    "sslmode",
    "sslrootcert",
    "sslcert",  # files, not what is in them
    "sslkey",
    "options",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
)
"""Of the query: anything else, misspelt passwords included, is shown as ***."""


def parse_url(text: str) -> URL:
    """The URL, checked, with psycopg 3 as the driver of every Postgres.

    Raises:
        UserError: It is malformed or names a database that is not known; it is not shown, for its password.
    """
    scheme, separator, rest = text.partition("://")
    try:
        url = make_url("postgresql+psycopg" + separator + rest if scheme in _POSTGRES else text)
        url.port  # noqa: B018  (read at once: it may be no number)
    except (SQLAlchemyError, ValueError):
        shown = f"{scheme!r}" if separator else "without a scheme"
        raise UserError(f"The storage URL ({shown}) is malformed: expected something like {_EXPECTED}.") from None
    if "@" in (url.host or ""):
        raise UserError(
            f"The storage URL ({scheme!r}) is malformed: an @ in its password has to be written as %40, a / as %2F."
        )
    if url.drivername not in _DRIVERS:
        raise UserError(
            f"The storage {without_secrets(url)} is of a kind that is not known here: expected {_EXPECTED}."
        )
    return url


def default_url(runs: Path) -> str:
    """The SQLite database below the runs directory."""
    return URL.create("sqlite", database=str(runs / "studies.db")).render_as_string()


def without_secrets(url: URL) -> str:
    """The URL as it may be shown: a password can stand in its query as well."""
    query = {key: value if key in _SHOWN else "***" for key, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def without_password(url: URL) -> URL:
    """The URL for a command line that others may read; the password is then looked for in $PGPASSWORD or ~/.pgpass."""
    query = {key: value for key, value in url.query.items() if key in _SHOWN}
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


def secrets_of(url: URL) -> frozenset[str]:
    """What no message may contain, in the ways it may be written; the environment's password is among it."""
    hidden = [url.password, os.environ.get("PGPASSWORD")]
    for key, value in url.query.items():
        if key not in _SHOWN:
            hidden += [value] if isinstance(value, str) else list(value)
    words = [str(word) for word in hidden if word]
    return frozenset(form for word in words for form in (word, quote(word, safe=""), quote_plus(word)))


def hide(text: str, secrets: Collection[str]) -> str:
    """The text without the secrets. One or two letters would take every word apart, and say nothing."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > 2:
            text = text.replace(secret, "***")
    return text


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
    if path.exists() and not path.is_file():
        raise UserError(f"The storage {path} is no file but a device, a pipe or the like: name another file.")
    if path.is_file() and path.stat().st_size and not _is_sqlite(path):
        raise UserError(f"The storage {path} is no SQLite database: name another file.")
    return path


def _is_sqlite(path: Path) -> bool:
    """Whether SQLite takes the file for a database.

    It is asked itself: a file that we open and close drops every lock that SQLite holds on it in this process, and
    other processes then take the database for unused while it is written.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return error.sqlite_errorcode != sqlite3.SQLITE_NOTADB  # anything else, opening it will tell
    finally:
        connection.close()
    return True
