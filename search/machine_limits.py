"""Errors that say what the machine, or the shell that started us, does not give: sentences instead of tracebacks.

Told by their text, since libraries raise errors of their own with the system's words in them.
"""

import os
import re
from collections.abc import Iterator

from datasets.errors import UserError

_REMEDIES = (
    (r"No space left on device|Disk quota exceeded", "make room"),
    (r"File too large", "raise the largest size of a file (`ulimit -f unlimited`)"),
    (r"Too many open files", "raise the number of open files (`ulimit -n 1024`)"),
    (r"can't start new thread|Resource temporarily unavailable", "raise the number of processes (`ulimit -u`)"),
    (r"Cannot allocate memory|failed to map segment", "free memory, or raise its limit (`ulimit -v unlimited`)"),
    (r"Read-only file system", "name a folder on another disk"),
)
_GONE = "The working directory was removed: change into one that exists."


class LimitReached(UserError):
    """The machine gives no more; nothing is wrong with what was asked for."""

    exit_status = 1


def limit_reached(error: Exception) -> LimitReached | None:
    """The sentence for an error that a limit of the machine is behind; None for any other error."""
    for link in _causes(error):
        if isinstance(link, MemoryError):
            return LimitReached("There is not enough memory: free some, or raise its limit (`ulimit -v unlimited`).")
        for line in reversed(str(link).splitlines()):
            for pattern, remedy in _REMEDIES:
                if found := re.search(pattern, line):
                    where = getattr(link, "filename", None)
                    at = f" ({where})" if where is not None else ""
                    return LimitReached(f"The machine gave no more: {found[0]}{at}; {remedy}, then repeat the command.")
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_directory():
        return LimitReached(_GONE)
    return None


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
