"""The texts in a tree of plain values that somebody else may have written, and how long they may be."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from datasets.common.errors import UserError

LONGEST_TEXT = 1000
LONGEST_SEQUENCE = 100_000


def texts_in(tree: Any) -> Iterator[str]:
    """Every text in the tree, the keys of mappings too."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from texts_in(key)
            yield from texts_in(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from texts_in(value)


def check_texts(tree: Any, longest: int) -> None:
    """Refuse a tree with a text of more than `longest` letters."""
    for text in texts_in(tree):
        if len(text) > longest:
            raise UserError(
                f"The text {text[:20]!r}... of {len(text):,} letters is not valid: expected at most {longest:,}."
            )


def check_shown(tree: Any, where: str) -> None:
    """Refuse a tree with a text that a terminal could not show as it is; `where` is what the tree is called."""
    check_texts(tree, LONGEST_TEXT)
    # Halves of a pair of surrogates (Cs), which JSON and YAML can name, can be written to no file.
    if any(unicodedata.category(letter) in ("Cc", "Cs") for text in texts_in(tree) for letter in text):
        raise UserError(f"A text of the {where} holds control characters: expected letters that a terminal shows.")
