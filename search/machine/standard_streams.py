"""Standard input, output and error as the program needs them, whatever it was started with.

A descriptor that is closed would be given to the next file that is opened, the database for one, and what is printed
would go there. Output that cannot be written is a sentence. What cannot be said on standard error is left unsaid:
there is nobody to tell it to, and no trial is to be lost by it.

Imports the standard library alone, because it comes before everything else.
"""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from datasets.common.errors import UserError


class OutputFailed(UserError):
    """Standard output cannot be written."""

    exit_status = 1


def prepare_streams() -> None:
    """Occupy closed descriptors, and guard standard output and standard error. To be called once, first of all."""
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free, and so this one. It goes the wrong way, so that its use still fails.
            os.set_inheritable(os.open(os.devnull, flags), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _Guarded(1, _refuse)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _Guarded(2, lambda error: None)  # type: ignore[misc]


def _refuse(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise error  # whoever read has left: there is nobody to tell
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
    raise OutputFailed(f"Standard output cannot be written ({reason}): make room, or send it elsewhere.") from None


class _Guarded(io.TextIOWrapper):
    """Text to a descriptor. After the first failure, of which `on_failure` is told, everything goes nowhere.

    What the locale's encoding lacks is written as an escape (`\\u00b1`): a table is worth more than its signs.
    """

    def __init__(self, number: int, on_failure: Callable[[OSError], None]) -> None:
        super().__init__(
            io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
            encoding=(sys.stdout or sys.stderr or sys.stdin).encoding,
            errors="backslashreplace",
            line_buffering=number == 2 or os.isatty(number),
        )
        self._number = number
        self._on_failure = on_failure

    def write(self, text: str) -> int:
        """Write, or fail once."""
        written: int = self._tried(lambda: super(_Guarded, self).write(text), len(text))
        return written

    def flush(self) -> None:
        """Flush, or fail once."""
        self._tried(super().flush, None)

    def _tried(self, act: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return act()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._number)  # what is kept for later, and Python writes at the end, goes there
            os.close(nowhere)
            self._on_failure(error)
            return otherwise


def announcer(is_quiet: bool) -> Callable[[str], None]:
    """Where warnings go: standard error, or nowhere."""

    def announce(sentence: str) -> None:
        if not is_quiet:
            print(printable(sentence), file=sys.stderr, flush=True)

    return announce


def printable(text: str) -> str:
    """A text for a terminal: without the control characters by which it could do more than be read."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
