"""What the database layers raise: the driver's own words, and what a person does about it. No password is in either."""

import re
import sqlite3
import sys
from collections.abc import Collection, Iterator
from itertools import takewhile
from typing import Final

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from search.machine.limits import causes
from search.machine.standard_streams import printable
from search.storage.url import hide

_ERRORS: Final = (SQLAlchemyError, StorageInternalError, sqlite3.Error)
RESTORE = "restore it from a copy, or name another"
_READ_ONLY = "it takes no writing from this role: name a role that may write and, of several servers, the primary one"
# The SQLSTATE stands before the words, for servers that speak another language than English.
_REMEDIES = (
    (r"the database system is", "wait until it is up, then repeat the command"),
    (r"too many connections for role", "end what else uses this role, or raise its limit with `ALTER ROLE`"),
    (r"too many connections for database", "end what else uses it, or raise its limit with `ALTER DATABASE`"),
    (r"too many clients|connection slots", "end some of the server's connections, or raise its max_connections"),
    (r"not currently accepting connections", "let it accept them with `ALTER DATABASE`, or name another"),
    (r"not permitted to log in", "let the role log in with `ALTER ROLE ... LOGIN`, or name another"),
    (r"pg_hba\.conf", "the server takes no such connection: let its pg_hba.conf take it, or change user or sslmode"),
    (r"does not support SSL", "switch on SSL on the server, or take sslmode out of the URL"),
    (r"certificate", "check sslmode and the certificates that the URL names"),
    (r"^28|password authentication failed|no password supplied|role .* does not exist", "check its user and password"),
    (r"^3D|database .* does not exist", "create it with `createdb`, or name another"),
    (r"resolve host|translate host|Name or service", "check the host's name"),
    (r"^57014|statement timeout", "raise the statement_timeout of its role or database, or see what slows it down"),
    (r"refused|timeout|timed out|unreachable|No route", "check its host and port, and that the server runs"),
    (r"^25006|read-only transaction|during recovery", _READ_ONLY),
    (r"^42501|permission denied", "grant the role what it lacks, or name another"),
    (r"readonly database", "let this user write the file and its folder, or name another file"),
    (r"^53100|disk is full|No space left|could not extend", "free some space; the same command goes on then"),
    (r"^53200|out of memory", "give the server more memory, or end what uses it"),
    (r"^42P01|no such table", f"a table is lost: {RESTORE}"),
    (r"^42703|no such column|has no column", f"a column is lost: {RESTORE}"),
    (r"^22P05|no equivalent in encoding", "create the database anew with `createdb --encoding=UTF8`"),
    (r"^XX00|malformed|not a database|decode to UTF-8", f"it is damaged: {RESTORE} file"),
    (r"locked", "another program holds it; try again when that has ended"),
    (r"disk I/O error|unable to open", "check its folder and the space on its disk"),
)


def is_database_error(error: BaseException) -> bool:
    """Whether one of the database layers raised it: Optuna's storage, SQLAlchemy or a driver."""
    return isinstance(error, _ERRORS) or is_of_psycopg(error, "Error")


def is_of_psycopg(error: BaseException, *names: str) -> bool:
    """Whether it is one of psycopg's errors of these names.

    Psycopg is not imported for the question: that takes a third of a second, and whoever uses SQLite never needs it.
    """
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, tuple(getattr(psycopg, name) for name in names))


def explain(error: BaseException, secrets: Collection[str]) -> str:
    """The reason in brackets, and the remedy: `(no such table: trials): restore it from a copy, or name another`."""
    *_, last = chain(error)
    reason = hide(reason_of(error), secrets)
    state = getattr(last, "sqlstate", None)
    remedy = next(
        (words for pattern, words in _REMEDIES if re.search(pattern, f"{state or ''} {reason}".lstrip())), None
    )
    if remedy is None:
        # Whoever got as far as a statement has the right URL.
        is_statement = bool(state) or isinstance(last, sqlite3.Error)
        remedy = "`doctor` looks at it closely" if is_statement else "check that its URL is right"
    return f"({reason}): {remedy}"


def reason_of(error: BaseException) -> str:
    """The driver's own words, in one line; they may quote what stands in a row."""
    lines = [line.strip(" -\t") for line in printable(str([*chain(error)][-1])).splitlines()]
    text = next((line for line in lines if "FATAL:" in line), lines[0] if lines else type(error).__name__)
    return re.sub(r"^.*(?:FATAL:| failed:)\s+", "", text).rstrip(".")


def chain(error: BaseException) -> Iterator[BaseException]:
    """The database layers' errors, from ours to the driver's. Others' errors end it: they stand for themselves.

    So does the driver's own: what it was raised during is another error, of the connection that the pool replaced.
    """
    for link in takewhile(is_database_error, causes(error)):
        yield link
        if isinstance(link, sqlite3.Error) or is_of_psycopg(link, "Error"):
            return
