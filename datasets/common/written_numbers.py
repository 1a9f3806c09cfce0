"""Numbers as people write them: with decimal commas, with marks between thousands, with percent signs, as limits.

A column is read in the one way in which all of its cells can be meant; where there are two, it says which cell tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPACES = (
    " '\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{FIGURE SPACE}\N{THIN SPACE}\N{HAIR SPACE}\N{PUNCTUATION SPACE}"
)
_SPACES += "\N{RIGHT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}\N{MODIFIER LETTER APOSTROPHE}"
_MARKS = ((".", ","), (",", "."), (".", _SPACES), (",", _SPACES))
"""Of decimals, and those between thousands."""
_HAS_BOTH = re.compile(r"[.,].*[.,]")  # marks between thousands beside a decimal one, or more than one of them
_SIGNS = "+-\N{MINUS SIGN}"
_IN_THOUSANDS = re.compile(rf"[{_SIGNS}]?[1-9][0-9]{{0,2}}\.[0-9]{{3}}")
_LIMIT = re.compile(r"(?:[<>]=|=[<>]|[<>≤≥≦≧⩽⩾＜＞])\s*")


def _pattern(decimal: str, between: str) -> re.Pattern[str]:
    thousands = rf"[1-9][0-9]{{0,2}}(?:[{re.escape(between)}][0-9]{{3}})+"
    fraction = rf"{re.escape(decimal)}[0-9]*"
    return re.compile(rf"[+-]?(?:(?:{thousands}|[0-9]+)(?:{fraction})?|{re.escape(decimal)}[0-9]+)(?:[eE][+-]?[0-9]+)?")


_WAYS = tuple((_pattern(*marks), str.maketrans(marks[0], ".", marks[1])) for marks in _MARKS)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WrittenNumbers:
    """N cells as numbers.

    values: (N,) float64, NaN where a cell is none in the way in which most of them are read. is_limit: (N,), whether
    it says only that the value is below or above. is_unusual: (N,), whether Python would not read it as it stands.
    doubt: (row, value, other value) of a cell that tells two ways apart in which all cells can be read; None without.
    """

    values: NDArray[np.float64]
    is_limit: NDArray[np.bool_]
    is_unusual: NDArray[np.bool_]
    doubt: tuple[int, float, float] | None = None


def plain_number(cell: str) -> float | None:
    """Return a number that is written as programs write it, None for anything else."""
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; tables do not mean one
    except ValueError:
        return None


def plain_numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Return cells as `plain_number` reads them (N,), NaN where one is none."""
    numbers = map(plain_number, cells)
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)


def perhaps_thousands(cells: Iterable[str], missing: frozenset[str]) -> int | None:
    """Return the row of a cell that is read as 2.277 and may mean 2277, None without one.

    So it may be where several whole numbers have three digits and none has more, and where every decimal has three
    behind its point. `missing`: what cells hold where nothing was measured, in small letters.
    """
    found, whole = None, set()
    for row, cell in enumerate(cells):
        text = cell.strip()
        bare = text.lstrip(_SIGNS)
        if _IN_THOUSANDS.fullmatch(text):
            found = row if found is None else found
        elif bare.isdecimal() and len(bare) <= 3 and len(text) - len(bare) <= 1:
            whole.add(bare)
        elif text.lower() not in missing:
            return None
    return found if sum(len(text) == 3 for text in whole) > 1 else None


def written_numbers(cells: Sequence[str]) -> WrittenNumbers:
    """Read N cells in the way that fits the most of them, the plain one first.

    A percent sign stands at all cells or at none (those that differ are no numbers), and divides by a hundred.
    """
    plain = plain_numbers(cells)
    nothing = np.zeros(len(cells), dtype=np.bool_)
    if not np.isnan(plain).any():
        return WrittenNumbers(values=plain, is_limit=nothing, is_unusual=nothing)
    bare = [cell.strip().replace("\N{MINUS SIGN}", "-") for cell in cells]
    limits = [_LIMIT.match(text) for text in bare]
    bare = [text if limit is None else text[limit.end() :] for text, limit in zip(bare, limits, strict=True)]
    has_percent = np.array([text.endswith("%") for text in bare], dtype=np.bool_)
    is_percent = 2 * has_percent.sum() > len(bare)
    if is_percent:
        bare = [text.removesuffix("%").rstrip() for text in bare]
    ways = [plain_numbers(bare)]
    if np.isnan(ways[0]).any():
        ways += [
            plain_numbers([text.translate(marks) if form.fullmatch(text) else "" for text in bare])
            for form, marks in _WAYS
        ]
    for values in ways:
        values[has_percent != is_percent] = np.nan
    if is_percent:
        ways = [values / 100 for values in ways]
    best = max(ways, key=lambda values: int((~np.isnan(values)).sum()))
    doubt = None
    for other in ways:
        at = np.flatnonzero((best != other) & ~np.isnan(best))
        if len(at) and np.array_equal(np.isnan(best), np.isnan(other)) and doubt is None:
            row = int(at[0])
            doubt = (row, float(best[row]), float(other[row]))
    if doubt is None and best is not ways[0] and not any(map(_HAS_BOTH.search, bare)):
        # A sheet has numbers beside texts: 1.208 beside 0,375 may be the number, and nothing shows marks of thousands.
        for row in np.flatnonzero(~np.isnan(best) & ~np.isnan(ways[0]) & (best != ways[0]))[:1].tolist():
            doubt = (row, float(best[row]), float(ways[0][row]))
    return WrittenNumbers(
        values=best,
        is_limit=np.array([limit is not None for limit in limits], dtype=np.bool_),
        is_unusual=np.isnan(plain),
        doubt=doubt,
    )
