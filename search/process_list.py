"""The storage's URL may hold a password: it is to stand in no process list, and in no environment that can do without.

Imports the standard library alone, because it comes before everything else.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

STORAGE = "FLIPSEARCH_STORAGE"
_OPTION = "--storage"
_NO_STORAGE = ("train", "verify")
"""Commands whose parsers refuse the option."""


def hide_storage() -> None:
    """Start this program again without `--storage URL`, which it finds in the environment instead.

    Everybody on a machine reads others' command lines; an environment is its own user's alone. Files have no password,
    and stay where they are.
    """
    rest, url = without_storage(sys.argv[1:])
    is_refused = bool(rest) and rest[0] in _NO_STORAGE
    if url is None or url.startswith("sqlite:") or is_refused:
        return
    own = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]  # the interpreter's options and the program
    os.execve(sys.executable, [sys.executable, *own[1:], *rest], {**os.environ, STORAGE: url})


def without_storage(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command line without the storage, and the URL that was named last, if any was."""
    rest: list[str] = []
    url = None
    before = iter(words)
    for word in before:
        if word == _OPTION:
            value = next(before, None)
            if value is None:
                rest.append(word)  # for the parser to refuse
            else:
                url = value
        elif word.startswith(f"{_OPTION}="):
            url = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, url


@contextlib.contextmanager
def storage_withheld() -> Iterator[None]:
    """Processes started inside this block do not see the storage's URL."""
    url = os.environ.pop(STORAGE, None)
    try:
        yield
    finally:
        if url is not None:
            os.environ[STORAGE] = url
