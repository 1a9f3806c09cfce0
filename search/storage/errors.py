"""Sentences for errors of the database, without a password in them; the advice in them: `remedies`."""

import contextlib
from collections.abc import Callable, Collection, Iterator

from datasets.common.errors import UserError
from search.machine.limits import limit_reached
from search.storage.outages import StorageLost, StorageRefused, refusal
from search.storage.remedies import is_database_error


@contextlib.contextmanager
def explained(name: str, secrets: Collection[str] = ()) -> Iterator[None]:
    """Turn what the database layers raise into a sentence; `name` is the storage's URL without secrets.

    Raises:
        UserError: Instead of their errors.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"The storage {name} needs a database driver that is not installed: {error.name}.") from None
    except OSError as error:
        raise limit_reached(error) or UserError(
            f"The storage {name} cannot be written ({error.strerror}: {error.filename}): let this user write there, "
            "or name another."
        ) from None
    except Exception as error:
        if is_database_error(error):
            raise refusal(error, name, secrets) from None
        raise


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
        refused = next((link for link in links if isinstance(link, StorageRefused)), None)
        failed = next((link for link in links if is_database_error(link)), None)
        if lost is not None:
            lost.exit_status = exit_status() or lost.exit_status
            raise lost from None
        if isinstance(error, UserError) and error is not refused:
            raise
        if is_study_gone():
            raise UserError(
                f"Study {study!r} was deleted from {name} meanwhile: repeat the command to begin it anew."
            ) from None
        if refused is not None:
            raise refused from None
        if failed is not None:
            raise refusal(failed, name, secrets) from None
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
