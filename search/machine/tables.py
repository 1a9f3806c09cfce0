"""Tables on a terminal, in a file or in a pipe: columns of text.

Imports the standard library alone, because `status` has to be quick.
"""

from collections.abc import Sequence
from unicodedata import combining, east_asian_width


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines of the rows, of which the first are the headers.

    They are as wide as their cells want to be: a name that is cut off names nothing.
    """
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    padded = [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text if not combining(letter))
