"""CSV and TSV: cells between commas, tabs or semicolons, quoted or not."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed, Packing
from datasets.tables.columns import Columns
from datasets.tables.text_file import MAX_LINE_BYTES, read_blocks

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_MAX_COLUMNS = 10_000
_LF = 10
_ROWS = 10_000  # of quoted cells, at a time
_SHORT = 24  # bytes: a Python object for each cell costs more than to compute the place of each byte

Rows = tuple[list[Packed], NDArray[np.int64]]
"""Some rows: their cells by column, and the numbers of their lines."""


def read_delimited(path: Path) -> Columns:
    """Read a table whose first line names its columns.

    Blank lines are skipped. A UserError names the line whose cells are not as many as the header's, the columns
    that bear one name, or the quote that is not closed.
    """
    blocks = read_blocks(path)
    header, rest, number = _header(blocks, path)
    delimiter = delimiter_of(header)
    names = names_in(header, delimiter, path, number)
    packings = [Packing() for _ in names]
    n_file_bytes = path.stat().st_size if path.exists() else 0
    lines: list[NDArray[np.int64]] = []
    for cells, numbers in _rows(chain([rest], blocks), delimiter, names, path, number):
        if not lines:  # the first rows tell how the file's bytes divide among the columns
            n_bytes = max(1, sum(len(part.codes) for part in cells))
            packings = [Packing(n_file_bytes * len(part.codes) // n_bytes) for part in cells]
        for packing, part in zip(packings, cells, strict=True):
            packing.add(part)
        lines.append(numbers)
    columns = [packing.packed() for packing in packings]
    at = np.concatenate(lines) if lines else np.zeros(0, dtype=np.int64)
    is_blank = sum(column.lengths for column in columns) == 0  # as spreadsheets leave them behind
    if np.any(is_blank):
        kept = np.flatnonzero(~is_blank)
        columns, at = [column.take(kept) for column in columns], at[kept]
    return Columns(
        cells={name: column for name, column in zip(names, columns, strict=True) if name},
        lines=at,
        where=str(path),
        kind="TSV" if delimiter == "\t" else "CSV",
        notes=(f"cells are divided by {_DELIMITERS[delimiter]}",) if delimiter == ";" else (),
    )


def _header(blocks: Iterator[bytes], path: Path) -> tuple[str, bytes, int]:
    """Return the first line that is not blank, what follows it in its block, and its number."""
    number = 0
    for block in blocks:
        while block:
            line, _, block = block.partition(b"\n")
            number += 1
            if line.strip():
                return line.decode(), block, number
    raise UserError(f"{path} has no header: line 1 is blank.")


def delimiter_of(header: str) -> str:
    """Return what divides the cells: the comma, tab or semicolon of which the header has most."""
    return max(_DELIMITERS, key=header.count)


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


def rows_of(
    blocks: Iterable[list[str]], names: Sequence[str], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], Sequence[int]]]:
    """Yield the cells of many rows below a header of `names`, and the numbers of their lines; blank lines are left out.

    `n_before` lines stand before the blocks. A UserError names a line with more or fewer cells.
    """
    for cells, numbers in _divided(blocks, delimiter, path, n_before):
        widths = list(map(len, cells))
        if widths.count(len(names)) < len(widths):
            row = next(row for row, width in enumerate(widths) if width != len(names))
            raise UserError(
                f"{path}, line {numbers[row]}: {widths[row]} cells, but the header has {len(names)} "
                f"({_DELIMITERS[delimiter]} divide them); correct the line or remove it."
            )
        yield cells, numbers


def _divided(
    blocks: Iterable[list[str]], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], Sequence[int]]]:
    blocks = iter(blocks)
    for block in blocks:
        if '"' in "\n".join(block):
            yield from _quoted(chain([block], blocks), delimiter, path, n_before)
            return
        kept = [(line.split(delimiter), n_before + i) for i, line in enumerate(block, 1) if line.strip(" ")]
        n_before += len(block)
        if kept:
            yield [cells for cells, _ in kept], [number for _, number in kept]


def _rows(blocks: Iterable[bytes], delimiter: str, names: Sequence[str], path: Path, n_before: int) -> Iterator[Rows]:
    """Yield the rows of each block, the ordinary ones without a Python object for each line."""
    blocks = iter(blocks)
    for block in blocks:
        if not block:
            continue
        if b'"' in block:
            for cells, numbers in rows_of(map(_lines, chain([block], blocks)), names, delimiter, path, n_before):
                yield _packed(cells, numbers, len(names))
            return
        rows = _plain(block, delimiter, len(names), n_before) if len(names) > 1 else None
        if rows is not None:
            yield rows
            n_before += len(rows[1])
            continue
        lines = _lines(block)
        for cells, numbers in rows_of([lines], names, delimiter, path, n_before):
            yield _packed(cells, numbers, len(names))
        n_before += len(lines)


def _lines(block: bytes) -> list[str]:
    return block.decode().removesuffix("\n").split("\n")


def _plain(block: bytes, delimiter: str, n_columns: int, n_before: int) -> Rows | None:
    """Return the rows of a block without quotes, or None where its lines do not all have `n_columns` cells."""
    if not block.endswith(b"\n"):
        block += b"\n"
    codes = np.frombuffer(block, dtype=np.uint8)
    # Few characters of a table sort before its delimiter: one comparison finds all ends of cells, and little else.
    last = max(ord(delimiter), _LF)
    at = _places(codes <= last if delimiter != ";" else (codes == _LF) | (codes == last))
    is_end = (codes[at] == _LF) | (codes[at] == ord(delimiter))
    if not is_end.all():
        at = at[is_end]
    if len(at) % n_columns:
        return None
    ends, found = at.reshape(-1, n_columns), codes[at].reshape(-1, n_columns)
    if (found[:, -1] != _LF).any() or (found[:, :-1] == _LF).any():
        return None
    starts = np.concatenate([[-1], ends.ravel()[:-1]]).reshape(-1, n_columns) + 1
    cells = [_cut(block, codes, starts[:, column], ends[:, column]) for column in range(n_columns)]
    return cells, np.arange(n_before + 1, n_before + 1 + len(ends), dtype=np.int64)


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return `np.flatnonzero(mask)` in half its time where few are set: eight are looked at at once."""
    n_whole = len(mask) // 8 * 8
    words = np.flatnonzero(mask[:n_whole].view(np.uint64) != 0)
    within = np.flatnonzero(mask[:n_whole].reshape(-1, 8)[words])
    return np.concatenate((8 * words[within // 8] + within % 8, n_whole + np.flatnonzero(mask[n_whole:])))


def _cut(block: bytes, codes: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Packed:
    """Return the cells between starts (N,) and ends (N,)."""
    lengths = ends - starts
    length = int(lengths[0])
    if length > 0 and (lengths == length).all():
        windows = np.lib.stride_tricks.sliding_window_view(codes, length)
        return Packed(windows[starts].reshape(-1), lengths)
    longest = int(lengths.max())
    if longest <= _SHORT:
        places = starts[:, None] + np.arange(longest)
        return Packed(codes[places[np.arange(longest) < lengths[:, None]]], lengths)
    cells = [block[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return Packed(np.frombuffer(b"".join(cells), dtype=np.uint8), lengths)


def _packed(cells: list[list[str]], numbers: Sequence[int], n_columns: int) -> Rows:
    columns = list(zip(*cells, strict=True)) or [()] * n_columns
    return [Packed.of(column) for column in columns], np.array(numbers, dtype=np.int64)


def _quoted(
    blocks: Iterable[list[str]], delimiter: str, path: Path, n_before: int
) -> Iterator[tuple[list[list[str]], Sequence[int]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader((line + "\n" for block in blocks for line in block), delimiter=delimiter, strict=True)
    while True:
        cells, numbers = [], []
        try:
            for row in reader:
                if row:
                    cells.append(row)
                    numbers.append(n_before + reader.line_num)
                if len(cells) == _ROWS:
                    break
        except csv.Error as error:
            raise UserError(
                f"{path}, line {n_before + reader.line_num}: the quotes of the cells do not match ({error}); "
                "correct the line."
            ) from error
        if not cells:
            return
        yield cells, numbers
