"""What the database layers raise, as sentences without a password in them."""

import contextlib
import errno
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator

import psycopg
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from datasets.errors import UserError
from search.outages import StorageLost, is_outage, reason_of
from search.storage_url import hide

_DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError, sqlite3.Error, psycopg.Error)
_REMEDIES = (
    (r"password authentication failed|no password supplied|role .* does not exist", "check its user and password"),
    (r"database .* does not exist", "create it with `createdb`, or name another"),
    (r"resolve host|translate host|Name or service", "check the host's name"),
    (r"refused|timeout|timed out|unreachable|No route", "check its host and port, and that the server runs"),
    (r"permission denied|read-only|readonly", "grant the role what it lacks, or name another"),
    (r"disk is full|No space left|could not extend", "free some space; the same command goes on then"),
    (r"malformed|not a database", "restore it from a copy, or name another file"),
    (r"locked", "another program holds it; try again when that has ended"),
    (r"disk I/O error|unable to open", "check its folder and the space on its disk"),
)


@contextlib.contextmanager
def explained(name: str, secrets: Collection[str] = ()) -> Iterator[None]:
    """Turn what the database layers raise into a sentence; `name` is the storage's URL without secrets.

    Raises:
        UserError: Instead of their errors.
    """
    try:
        yield
    except _DATABASE_ERRORS as error:
        raise sentence(error, name, secrets) from None
    except ImportError as error:
        raise UserError(f"The storage {name} needs a database driver that is not installed: {error.name}.") from None
    except OSError as error:
        full = "; free some space" if error.errno == errno.ENOSPC else ""
        raise UserError(f"The storage {name} cannot be written: {error.strerror} ({error.filename}){full}.") from None


def sentence(error: BaseException, name: str, secrets: Collection[str]) -> UserError:
    """The refusal that a database error stands for."""
    reason = hide(reason_of(error), secrets)
    remedy = next((words for pattern, words in _REMEDIES if re.search(pattern, reason)), "check that its URL is right")
    what = "does not answer" if is_outage(error) else "cannot be used"
    return UserError(f"The storage {name} {what} ({reason}): {remedy}.")


@contextlib.contextmanager
def guarded(
    *,
    name: str,
    secrets: Collection[str],
    study: str,
    is_study_gone: Callable[[], bool],
    exit_status: Callable[[], int] = lambda: 0,
) -> Iterator[None]:
    """Around all that works on a study: a lost database or a deleted study ends it in one sentence.

    Optuna wraps what goes wrong within a trial in errors of its own making, so the cause is looked for below them.

    Args:
        name: The storage's URL without secrets.
        secrets: What no message may contain.
        study: The study's name.
        is_study_gone: Asked after an error: whether the database has no such study any more.
        exit_status: Of the signal that ended the waiting for a database; 0 for none.

    Raises:
        UserError: The study was deleted, or the database refuses its work (a full disk).
        StorageLost: The database did not come back.
    """
    try:
        yield
    except Exception as error:
        links = [*_causes(error)]
        lost = next((link for link in links if isinstance(link, StorageLost)), None)
        failed = next((link for link in links if isinstance(link, _DATABASE_ERRORS)), None)
        if lost is not None:
            lost.exit_status = exit_status() or lost.exit_status
            raise lost from None
        if isinstance(error, UserError):
            raise
        if is_study_gone():
            raise UserError(
                f"Study {study!r} was deleted from {name} meanwhile: repeat the command to begin it anew."
            ) from None
        if failed is not None:
            raise sentence(failed, name, secrets) from None
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
