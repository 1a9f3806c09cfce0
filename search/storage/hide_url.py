"""The storage's URL may hold a password: it is to stand in no process list, and in no child's environment.

Imports the standard library alone, because it comes before everything else.
"""

import os
import sys
from collections.abc import Sequence

STORAGE = "FLIPSEARCH_STORAGE"
_OPTION = "--storage"
NO_STORAGE = ("train", "verify", "predict", "suggest", "data", "serve")
"""Commands whose parsers refuse the option."""


_taken: str | None = None


def hide_storage() -> None:
    """Take the storage's URL out of the environment, for no child has any use for it; and off the command line.

    Everybody on a machine reads others' command lines. So this program starts again without `--storage URL`, which it
    then finds in its environment: that is its own user's alone. Files have no password, and stay where they are.
    """
    global _taken
    rest, urls = _apart(sys.argv[1:])
    is_refused = bool(rest) and rest[0] in NO_STORAGE
    if not is_refused and not all(url.startswith("sqlite:") for url in urls if url):
        own = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]  # the interpreter's options and the program
        os.execve(sys.executable, [sys.executable, *own[1:], *rest], {**os.environ, STORAGE: urls[-1]})
    _taken = os.environ.pop(STORAGE, None)


def environment_url() -> str | None:
    """The storage named by the environment."""
    return os.environ.get(STORAGE, _taken)


def without_storage(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command line without the storage, and the URL that was named last, if any was."""
    rest, urls = _apart(words)
    return rest, urls[-1] if urls else None


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without the storage, and all URLs that were named: of several the parser takes the last."""
    rest: list[str] = []
    urls: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == _OPTION and left and not left[0].startswith("-"):
            urls.append(left.pop(0))
        elif word.startswith(f"{_OPTION}="):
            urls.append(word.partition("=")[2])
        else:
            rest.append(word)  # of an option without a URL as well: the parser refuses it
    return rest, urls
