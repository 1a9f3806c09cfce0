"""CSV and TSV: cells between commas, tabs or semicolons, quoted or not."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from datasets.columns import Columns
from datasets.errors import UserError
from datasets.text_file import MAX_LINE_BYTES, read_lines

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_MAX_COLUMNS = 10_000


def read_delimited(path: Path) -> Columns:
    """Read a table whose first line names its columns.

    Blank lines are skipped. A UserError names the line whose cells are not as many as the header's, the columns
    that bear one name, or the quote that is not closed.
    """
    blocks = read_lines(path)
    first = next(blocks, [])
    n_blank = next((i for i, line in enumerate(first) if line.strip()), len(first))
    if n_blank == len(first):
        raise UserError(f"{path} has no header: line 1 is blank.")
    header = first[n_blank]
    delimiter = delimiter_of(header)
    names = names_in(header, delimiter, path, n_blank + 1)
    columns: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    rest = chain([first[n_blank + 1 :]], blocks)
    for cells, numbers in rows_of(rest, names, delimiter, path, n_blank + 1):
        for column, values in zip(columns, zip(*cells, strict=True), strict=False):
            column.extend(values)
        lines.extend(numbers)
    return Columns(
        cells={name: column for name, column in zip(names, columns, strict=True) if name},
        lines=lines,
        where=str(path),
        kind="TSV" if delimiter == "\t" else "CSV",
        notes=(f"cells are divided by {_DELIMITERS[delimiter]}",) if delimiter == ";" else (),
    )


def delimiter_of(header: str) -> str:
    """Return what divides the cells: the comma, tab or semicolon of which the header has most."""
    return max(_DELIMITERS, key=header.count)


def rows_of(
    blocks: Iterable[list[str]], names: Sequence[str], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Yield the cells of many rows below a header of `names`, and the numbers of their lines.

    `n_before` lines stand before the blocks. A UserError names a line with more or fewer cells.
    """
    for cells, numbers in _rows(blocks, delimiter, path, n_before):
        for row, number in zip(cells, numbers, strict=True):
            if len(row) != len(names):
                raise UserError(
                    f"{path}, line {number}: {len(row)} cells, but the header has {len(names)} "
                    f"({_DELIMITERS[delimiter]} divide them); correct the line or remove it."
                )
        yield cells, numbers


def names_in(header: str, delimiter: str, path: Path, number: int) -> list[str]:
    """Return the names of the columns, the header being line `number`; a UserError if two are the same."""
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}, line {number}: the header cannot be read ({error}).") from error
    if len(names) > _MAX_COLUMNS:
        raise UserError(f"{path}, line {number}: the header names {len(names):,} columns, expected {_MAX_COLUMNS:,}.")
    twice = [name for i, name in enumerate(names) if name and name in names[:i]]
    if twice:
        raise UserError(f"{path}, line {number}: two columns are called {twice[0]!r}; rename one of them.")
    return names


def _rows(
    blocks: Iterable[list[str]], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Yield the cells of many rows, and the numbers of their lines; blank lines are left out."""
    blocks = iter(blocks)
    for block in blocks:
        if any('"' in line for line in block):
            yield from _quoted(chain([block], blocks), delimiter, path, n_before)
            return
        numbers = range(n_before + 1, n_before + 1 + len(block))
        kept = [(line, number) for line, number in zip(block, numbers, strict=True) if line.strip(" ")]
        if kept:
            yield [line.split(delimiter) for line, _ in kept], [number for _, number in kept]
        n_before += len(block)


def _quoted(
    blocks: Iterable[list[str]], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], list[int]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader((line + "\n" for block in blocks for line in block), delimiter=delimiter, strict=True)
    while True:
        cells, numbers = [], []
        try:
            for row in reader:
                if row and any(row):
                    cells.append(row)
                    numbers.append(n_before + reader.line_num)
                if len(cells) == 10_000:
                    break
        except csv.Error as error:
            raise UserError(
                f"{path}, line {n_before + reader.line_num}: the quotes of the cells do not match ({error}); "
                "correct the line."
            ) from error
        if not cells:
            return
        yield cells, numbers
