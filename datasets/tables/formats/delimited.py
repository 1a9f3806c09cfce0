"""CSV and TSV: cells between commas, tabs or semicolons, quoted or not. pyarrow is imported late: it is heavy."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.tables.columns import RowBatch, TableStream, checked_names
from datasets.tables.formats.text_file import MAX_LINE_BYTES, read_blocks, read_lines

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_MAX_LEFT_OUT = 1_000_000
_BLOCK_BYTES = 1 << 20  # that pyarrow divides at a time
_RECORD_BYTES = 1 << 20  # a row whose cells have line breaks may have as many
_QUOTE, _LF = b'"\n'
_LOOKED_AT = 1 << 16  # bytes below the header, to find the delimiter
_DECIMAL_COMMA = re.compile(r"[<>=+-]*[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
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
        batches=_batches(chain([rest] if rest else [], blocks), delimiter, len(names), path, number),
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
        start = 0  # of a line; what stands before it is not cut off, which would take a copy for each line
        while (end := rest.find(b"\n", start)) >= 0:
            line, start = rest[start:end], end + 1
            is_comment = line.startswith(b"#") or _SEP.fullmatch(line) is not None
            if line.strip() and not is_comment:
                return line.decode(), rest[start:], number, has_comments
            has_comments |= is_comment
            number += 1
        rest = rest[start:]
    if rest.strip():
        return rest.decode(), b"", number, has_comments
    raise UserError(f"{path} has no header: line 1 is blank.")


def _delimiter(header: str, rest: bytes) -> str:
    """Return the delimiter that the header has most of, rather one that divides the lines below it into as many cells.

    Of several that do, such as both in `M1A;1,5` below `variant;fitness (log2, norm)`, that of European exports is
    rather one that leaves decimal commas.
    """
    found = sorted(_DELIMITERS, key=header.count, reverse=True)
    rest = rest.lstrip(b"\n")
    first, below, _ = rest.partition(b"\n")
    fitting = []
    for delimiter in found if below else ():
        with contextlib.suppress(csv.Error):  # which whoever reads the lines explains
            cells, cells_below = (
                next(csv.reader([line], delimiter=delimiter), []) for line in (header, first.decode())
            )
            if len(cells) == len(cells_below) > 1:
                fitting.append(delimiter)
    if len(fitting) > 1:
        lines = [header, *rest[:_LOOKED_AT].rpartition(b"\n")[0].decode().split("\n")]
        rows = {delimiter: _whole_records(lines, delimiter) for delimiter in fitting}
        n_odd = {delimiter: sum(len(row) != len(some[0]) for row in some) for delimiter, some in rows.items()}
        fitting = [delimiter for delimiter in fitting if n_odd[delimiter] == min(n_odd.values())]
        has_decimals = (other for other in fitting if _has_decimal_commas(rows[other][1:]))
        return next(has_decimals, fitting[0]) if fitting[0] == "," else fitting[0]
    return fitting[0] if fitting else found[0]


def _whole_records(lines: list[str], delimiter: str) -> list[list[str]]:
    """Return the records of some lines that are not blank, up to one whose quotes do not match or are not closed."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows.extend(csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True))
    return [row for row in rows if "".join(row).strip(' "')]


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether there are commas within the cells, each of them in a number."""
    cells = [cell.strip() for row in rows for cell in row if "," in cell]
    return bool(cells) and all(map(_DECIMAL_COMMA.fullmatch, cells))


def _names(header: str, delimiter: str, path: Path, number: int) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise UserError(f"{path}, line {number}: the header cannot be read ({error}).") from error
    return checked_names(names, f"{path}, line {number}")


def _batches(blocks: Iterator[bytes], delimiter: str, n_columns: int, path: Path, number: int) -> Iterator[RowBatch]:
    """Yield the rows below a header, which is line `number`; `blocks` begin with the line after it."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import compute
    from pyarrow import csv as arrow_csv

    pa.enable_signal_handlers(False)  # a signal is ours: pyarrow would end a file in the middle for it
    columns = [str(i) for i in range(n_columns)]
    left_out: list[int] = []  # numbers of records in the text, counted from 1: lines of nothing but spaces
    n_left_out = 0

    def judged(row: Any) -> str:
        if row.text.strip(' "') or n_left_out + len(left_out) == _MAX_LEFT_OUT:
            return "error"
        left_out.append(row.number)
        return "skip"

    def divided(text: memoryview, has_quotes: bool, n_bytes: int) -> Any:
        # From memory: where pyarrow reads a file of Python's, a thread of its own still does so when the table is given
        # up, and by then the interpreter may be ending, or may wait for that thread.
        left_out.clear()
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=n_bytes, column_names=columns),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=has_quotes,
                ignore_empty_lines=False,
                invalid_row_handler=judged,
            ),
            convert_options=converted,
        )

    converted = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.large_string()), check_utf8=False, strings_can_be_null=False
    )
    explain = partial(_explain, path, delimiter, n_columns, number)
    try:
        for text, has_quotes in _ahead(_whole_rows(blocks, delimiter, path, explain)):
            try:  # pyarrow takes longer where it does not know how many rows to expect
                table = divided(text, has_quotes, _BLOCK_BYTES)
            except pa.ArrowInvalid:  # such as a row that is longer
                table = divided(text, has_quotes, len(text) + 1)
            first = n_breaks = 0
            records = np.arange(number + 1, number + 1 + table.num_rows + len(left_out))
            number += len(records)
            n_left_out += len(left_out)
            if left_out:
                records = np.delete(records, np.subtract(left_out, 1))
            for batch in filter(len, table.to_batches()):
                cells, lines = batch.columns, records[first : first + len(batch)]
                first += len(batch)
                if n_columns == 1:
                    cells = [compute.utf8_trim(cells[0], " ")]
                if has_quotes:  # a row is known by its last line
                    breaks = n_breaks + np.cumsum(
                        sum(compute.count_substring(column, "\n").to_numpy() for column in cells)
                    )
                    lines = lines + breaks
                    n_breaks = int(breaks[-1])
                is_blank = np.ones(len(lines), dtype=np.bool_)
                for column in cells:
                    is_blank &= compute.binary_length(column).to_numpy() == 0
                    if not is_blank.any():
                        break
                else:  # as spreadsheets leave them behind
                    cells, lines = [column.filter(pa.array(~is_blank)) for column in cells], lines[~is_blank]
                yield RowBatch(cells, lines)
            number += n_breaks
    except pa.ArrowInvalid as error:
        explain()
        raise _undivided(path, str(error)) from error


def _ahead(texts: Iterator[tuple[memoryview, bool]]) -> Iterator[tuple[memoryview, bool]]:
    """Yield the texts, each read in another thread while the one before it is divided."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, texts, None)
        while (text := following.result()) is not None:
            following = pool.submit(next, texts, None)
            yield text


def _whole_rows(
    blocks: Iterator[bytes], delimiter: str, path: Path, explain: Callable[[], None]
) -> Iterator[tuple[memoryview, bool]]:
    """Yield text that ends where a row does, and whether it has quotes.

    `explain` is called once, where quotes do not all stand around cells, and doubled within them.
    """
    may_stand_beside = np.isin(np.arange(256), [ord(delimiter), _QUOTE, _LF])
    quoted = re.compile(rb'(?<![^%b\n])"[^"]*(?:""[^"]*)*(?:"|\Z)' % delimiter.encode())
    rest, is_explained = b"", False
    for block in chain(blocks, [b""]):
        is_end, text = not block, rest + block
        has_quotes = b'"' in text
        are_around = not has_quotes or _are_around_cells(text, may_stand_beside, is_end=is_end)
        if not are_around and not is_explained:
            is_explained = True
            explain()
        if is_end:
            end = len(text)
        elif has_quotes and are_around:
            end = _end_of_rows(text)
        else:  # a quote within a cell that does not begin with one, such as 5" gel, is a letter: slower
            text_only = text if are_around else quoted.sub(lambda cell: b"_" * len(cell[0]), text)
            end = text_only.rfind(b"\n") + 1
        rows, rest = memoryview(text)[:end], text[end:]
        if rows:
            yield rows, has_quotes
        if len(rest) > _RECORD_BYTES:
            explain()
            raise _undivided(path, f"a row has more than {_RECORD_BYTES:,} bytes")


def _end_of_rows(text: bytes) -> int:
    """Where the last row ends of which `text`, which begins with a row, has the end: a line break outside of quotes."""
    codes = np.frombuffer(text, dtype=np.uint8)
    breaks, quotes = np.flatnonzero(codes == _LF), np.flatnonzero(codes == _QUOTE)
    ends = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(ends[-1]) + 1 if len(ends) else 0


def _are_around_cells(text: bytes, may_stand_beside: NDArray[np.bool_], *, is_end: bool) -> bool:
    """Whether of each pair of quotes the first follows, and the second precedes, another cell, row or quote.

    The last one may lack its second, unless the text `is_end` of the file.
    """
    codes = np.frombuffer(b"\n%b\n" % text, dtype=np.uint8)
    at = np.flatnonzero(codes == _QUOTE)
    beside = np.where(np.arange(len(at)) % 2 == 0, codes[at - 1], codes[at + 1])
    return (len(at) % 2 == 0 or not is_end) and bool(may_stand_beside[beside].all())


def _undivided(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be divided into rows ({reason}); check its quotes and remove its blank lines.")


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
