"""CSV and TSV: cells between commas, tabs or semicolons, quoted or not. pyarrow is imported late: it is heavy."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from datasets.common.errors import UserError
from datasets.tables.columns import RowBatch, TableStream, checked_names
from datasets.tables.formats.text_file import MAX_LINE_BYTES, read_blocks, read_lines

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_MAX_LEFT_OUT = 1_000_000
_RECORD_BYTES = 1 << 20  # a row whose cells have line breaks may have as many
_QUOTE, _LF = b'"\n'
_SEP = re.compile(rb'"?sep=[,;\t]"?\s*', re.IGNORECASE)


def open_delimited(path: Path) -> TableStream:
    """Read a table whose first line names its columns; lines and rows that are blank are skipped.

    A UserError names the columns that bear one name and, while the rows are read, the line whose cells are not as many
    as the header's, or the quote that is not closed.
    """
    notes: list[str] = []
    blocks = read_blocks(path, notes)
    header, rest, number, has_comments = _header(blocks, path)
    delimiter = _delimiter(header, rest)
    names = _names(header, delimiter, path, number)
    if delimiter == ";":
        notes.append(f"cells are divided by {_DELIMITERS[delimiter]}")
    if has_comments:
        notes.append(f"what stands before the header, up to line {number - 1}, is passed over")
    return TableStream(
        names=names,
        header=f"{path}, line {number}",
        batches=_batches(chain([b"\n" + rest], blocks), delimiter, len(names), path, number),
        where=str(path),
        kind="TSV" if delimiter == "\t" else "CSV",
        notes=notes,
    )


def _header(blocks: Iterator[bytes], path: Path) -> tuple[str, bytes, int, bool]:
    """Return the first line that is neither blank nor a comment, what follows it in its block, its number, and
    whether there are comments before it: lines that begin with #, or that of Excel which names the sign between cells.
    """
    number, rest, has_comments = 1, b"", False
    for block in blocks:
        rest += block
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            is_comment = line.startswith(b"#") or _SEP.fullmatch(line) is not None
            if line.strip() and not is_comment:
                return line.decode(), rest, number, has_comments
            has_comments |= is_comment
            number += 1
    if rest.strip():
        return rest.decode(), b"", number, has_comments
    raise UserError(f"{path} has no header: line 1 is blank.")


def _delimiter(header: str, rest: bytes) -> str:
    """Return the delimiter that the header has most of, rather one that divides the next line into as many cells."""
    found = sorted(_DELIMITERS, key=header.count, reverse=True)
    lines = rest.lstrip(b"\n").partition(b"\n")
    if lines[1]:
        for delimiter in found:
            with contextlib.suppress(csv.Error):  # which whoever reads the lines explains
                n_cells, n_below = (
                    len(next(csv.reader([line], delimiter=delimiter), [])) for line in (header, lines[0].decode())
                )
                if n_cells == n_below > 1:
                    return delimiter
    return found[0]


def _names(header: str, delimiter: str, path: Path, number: int) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}, line {number}: the header cannot be read ({error}).") from error
    return checked_names(names, f"{path}, line {number}")


def _batches(blocks: Iterator[bytes], delimiter: str, n_columns: int, path: Path, number: int) -> Iterator[RowBatch]:
    """Yield the rows below a header; `blocks` begin with the end of its line, line `number`."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import compute
    from pyarrow import csv as arrow_csv

    pa.enable_signal_handlers(False)  # a signal is ours: pyarrow would end a file in the middle for it
    columns = [str(i) for i in range(n_columns)]
    left_out: list[int] = []  # numbers of records, counted from 1 by pyarrow: lines of nothing but spaces

    def judged(row: Any) -> str:
        if row.text.strip(' "') or len(left_out) == _MAX_LEFT_OUT:
            return "error"
        left_out.append(row.number)
        return "skip"

    text = _Text(blocks, delimiter, lambda: _explain(path, delimiter, n_columns, number))
    n_records, n_breaks = 0, 0
    try:
        with pa.PythonFile(text, mode="r") as file:
            reader = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_RECORD_BYTES, column_names=columns),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=judged
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.large_string()), check_utf8=False, strings_can_be_null=False
                ),
            )
            for batch in reader:
                text.raise_error()
                if not len(batch):
                    continue
                cells = batch.columns if n_columns > 1 else [compute.utf8_trim(batch.column(0), " ")]
                records = np.arange(n_records + 1, n_records + 1 + len(batch) + len(left_out))
                if left_out:
                    records = np.setdiff1d(records, left_out)[: len(batch)]
                    left_out[:] = [record for record in left_out if record > records[-1]]
                n_records = int(records[-1])
                lines = records + (number - 1)
                if text.has_quotes:  # a row is known by its last line
                    breaks = sum(compute.count_substring(column, "\n").to_numpy() for column in cells)
                    lines += n_breaks + np.cumsum(breaks)
                    n_breaks += int(np.sum(breaks))
                is_blank = np.ones(len(batch), dtype=np.bool_)
                for column in cells:
                    is_blank &= compute.binary_length(column).to_numpy() == 0
                    if not is_blank.any():
                        break
                else:  # as spreadsheets leave them behind
                    cells, lines = [column.filter(pa.array(~is_blank)) for column in cells], lines[~is_blank]
                yield RowBatch(cells, lines)
            text.raise_error()
    except pa.ArrowInvalid as error:
        text.raise_error()
        _explain(path, delimiter, n_columns, number)
        raise UserError(
            f"{path} cannot be divided into rows ({error}); check its quotes and remove its blank lines."
        ) from error


class _Text(io.RawIOBase):
    """Blocks as a file for pyarrow, which wants a row to end at the latest in the block after that in which it begins.

    `explain` is called once, where quotes do not all stand around cells, and doubled within them. has_quotes: whether
    there were any.

    pyarrow reads in a thread of its own. An error that went through it there would hold the reader, by its traceback,
    and that thread would wait for itself for ever where it is the last to let go of it: so the file ends, and
    `raise_error` raises the error in the thread that asks for rows.
    """

    def __init__(self, blocks: Iterator[bytes], delimiter: str, explain: Callable[[], None]) -> None:
        self.has_quotes = False
        self._blocks = blocks
        self._explain: Callable[[], None] | None = explain
        self._may_stand_beside = np.isin(np.arange(256), [ord(delimiter), _QUOTE, _LF])
        self._last, self._n_quotes = b"\n", 0
        self._error: BaseException | None = None
        self._is_over = False

    def raise_error(self) -> None:
        """Raise what went wrong while the blocks were read, if anything did."""
        error, self._error = self._error, None  # whose traceback would hold this file, and the file the error
        if error is not None:
            raise error

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def read(self, n_bytes: int = -1) -> bytes:
        """Return the next bytes, once there are quotes about as many as a row may have; nothing at the end."""
        if self._is_over:
            return b""
        try:
            return self._next()
        except BaseException as error:
            self._error, self._is_over = error, True
            return b""

    def _next(self) -> bytes:
        parts, n_read = [], 0
        for block in self._blocks:
            if self.has_quotes or b'"' in block:
                self._look_at_quotes(block)
            else:
                self._last = block[-1:] or self._last
            parts.append(block)
            n_read += len(block)
            if b"\n" in block and (n_read >= _RECORD_BYTES or not self.has_quotes):
                return parts[0] if len(parts) == 1 else b"".join(parts)
        self._is_over = True
        self._look_at_quotes(b"\n", is_end=True)
        return b"".join(parts)

    def _look_at_quotes(self, block: bytes, *, is_end: bool = False) -> None:
        """Look at all but the last byte, of which one cannot tell yet what follows."""
        self.has_quotes |= not is_end
        codes = np.frombuffer(self._last + block, dtype=np.uint8)
        at = np.flatnonzero(codes[1:-1] == _QUOTE) + 1
        opens = (self._n_quotes + np.arange(len(at))) % 2 == 0
        beside = np.where(opens, codes[at - 1], codes[at + 1])
        self._n_quotes += len(at)
        self._last = codes[-2:].tobytes()
        is_open = is_end and self._n_quotes % 2 == 1
        if self._explain is not None and (is_open or not self._may_stand_beside[beside].all()):
            explain, self._explain = self._explain, None
            explain()


def _explain(path: Path, delimiter: str, n_columns: int, first: int) -> None:
    """Raise a UserError for the first line that is no row: slowly, but numbered as in an editor.

    `first` is the number of the header's line; those before it are blank, or comments.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = islice((line + "\n" for block in read_lines(path) for line in block), first - 1, None)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if len(row) != n_columns and delimiter.join(row).strip(' "'):
                title = f", or remove line {first} if it is a title and no header" if n_columns == 1 else ""
                raise UserError(
                    f"{path}, line {reader.line_num + first - 1}: {len(row)} cells, but the header has {n_columns} "
                    f"({_DELIMITERS[delimiter]} divide them); correct the line or remove it{title}."
                )
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num + first - 1}: the quotes of the cells do not match ({error}); correct the "
            "line."
        ) from error
