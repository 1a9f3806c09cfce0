"""Sentences for errors of the database, without a password in them; the advice in them: `remedies`."""

import contextlib
from collections.abc import Collection, Iterator

from datasets.common.errors import UserError
from search.machine.limits import limit_reached
from search.storage.outages import refusal
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


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while they were handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
