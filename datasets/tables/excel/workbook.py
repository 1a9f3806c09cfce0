"""Tables in Excel's formats, .xlsx and .xls. pyarrow is imported late because it is heavy."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from datasets.common.errors import UserError, nearest
from datasets.tables.columns import RowBatch, TableStream, checked_names

_NEW, _OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_PROCESS = Path(__file__).with_name("process.py")
_SECONDS = 900
_ROWS = 8192  # at a time
_LOOKED_AT = 50  # rows, to find the header
_Row = list[Any]
"""The number of a row, as Excel counts, and its cells up to the last that is not empty."""


def is_excel(start: bytes) -> bool:
    """Return whether a file's first bytes are those of a workbook, old or new; other zip files have the same."""
    return start.startswith((_NEW, _OLD))


def open_excel(path: Path, sheet: str | None, usual: str | None = None) -> TableStream:
    """Read a sheet, the only one that is not empty if none is named, as the text that a CSV file of it would hold.

    Where none is named and several are not empty, it is the one called as `usual`, if there is one.
    Formulas are the values that Excel computed last, errors (in .xlsx) their words, such as ``#DIV/0!``. The header is
    the first row, below a title if there is one.

    A UserError says that the file is no workbook that can be read within bounds, which sheets there are to choose from,
    or what is wrong with the header.
    """
    rows = _lines(path, sheet)
    opening: dict[str, Any] = next(rows)
    if "sheets" in opening and sheet is None and usual in opening["sheets"]:
        return open_excel(path, usual)
    if "sheets" in opening:
        raise _choice(path, sheet, opening["sheets"])
    looked_at: list[_Row] = list(islice(rows, _LOOKED_AT))
    at = _header(looked_at, path)
    number, cells = looked_at[at]
    names = checked_names([" ".join(cell.split()) for cell in cells], f"{path}, row {number}")
    notes = [
        *((f"the sheet {opening['sheet']!r} is read",) if opening["n_sheets"] > 1 else ()),
        *((f"what stands above the header in row {number} is passed over",) if at else ()),
    ]
    return TableStream(
        names=names,
        header=f"{path}, row {number}",
        batches=_batches(chain(looked_at[at + 1 :], rows), len(names), notes),
        where=str(path),
        kind="Excel",
        place="row",
        notes=notes,
    )


def _lines(path: Path, sheet: str | None) -> Iterator[Any]:
    """Yield what the process writes, once it has ended."""
    with tempfile.TemporaryFile() as output:
        try:
            status: int | None = _run(path, sheet, output)
        except (subprocess.TimeoutExpired, OSError, ValueError):  # or a sheet's name that cannot be one
            status = None
        output.seek(max(0, output.seek(0, 2) - 4096))  # longer than a refusal can be
        end = output.read().splitlines()[-1:]
        if status != 0 or not end:
            raise UserError(
                f"{path} is no Excel file that can be read: it is damaged, or its cells need too much memory or time; "
                "save it again, or save the sheet as CSV."
            )
        if end[0].startswith(b'{"refused"'):
            raise UserError(f"{path} {json.loads(end[0])['refused']}")
        output.seek(0)
        yield from map(json.loads, output)


def _run(path: Path, sheet: str | None, output: IO[bytes]) -> int:
    """Return the exit status of the process."""
    with tempfile.TemporaryDirectory() as folder:
        with path.open("rb") as file:
            link = Path(folder, "book.xls" if file.read(4) == _OLD else "book.xlsx")  # the library goes by the name
        link.symlink_to(path.absolute())
        words = [sys.executable, "-I", str(_PROCESS), str(link), *([] if sheet is None else [sheet])]
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, timeout=_SECONDS, check=False
        ).returncode


def _choice(path: Path, sheet: str | None, sheets: list[str]) -> UserError:
    shown = ", ".join(map(repr, sheets[:12])) + (f" and {len(sheets) - 12} more" if len(sheets) > 12 else "")
    if sheet is not None:
        return UserError(f"{path} has no sheet {sheet!r} (--sheet); its sheets are {shown}.{nearest(sheet, sheets)}")
    if not sheets:
        return UserError(f"{path} has no sheet with a cell that is not empty.")
    return UserError(
        f"{path} has several sheets that are not empty ({shown}): name one with --sheet NAME, or save it as a file of "
        "its own."
    )


def _header(rows: list[_Row], path: Path) -> int:
    """Return where the header is: in the first row, or in the first of several cells where most rows have as many.

    A UserError is raised where most of the rows below it are wider than it is: what it names is not what they hold.
    """
    if not rows:
        raise UserError(f"{path} has a sheet without rows: a header and a row for each variant are expected.")
    widths = [sum(cell.strip() != "" for cell in cells) for _, cells in rows]
    is_wide = [width > 1 for width in widths]
    at = is_wide.index(True) if 2 * sum(is_wide) > len(rows) else 0
    below = sorted(widths[at + 1 :])
    usual = below[len(below) // 2] if below else 0
    if usual > widths[at]:
        raise UserError(
            f"{path}, row {rows[at][0]}: the header should be the first row of the sheet, but this one has "
            f"{widths[at]} cell{'s' * (widths[at] > 1)} and most rows below it have {usual}; remove the rows above the "
            "header, and name each column."
        )
    return at


def _batches(rows: Iterator[_Row], n_columns: int, notes: list[str]) -> Iterator[RowBatch]:
    """Yield the rows below the header; `notes` gets the first cell that stands beside it."""
    import pyarrow as pa  # type: ignore[import-untyped]

    blank, is_noted = [""] * n_columns, False
    while some := list(islice(rows, _ROWS)):
        beside = ((at, cell) for at, cells in some for cell in cells[n_columns:] if not is_noted and cell.strip())
        for at, cell in islice(beside, 1):
            is_noted = True
            notes.append(f"cells to the right of the header are left out: {cell.strip()[:60]!r} in row {at}")
        filled = [(number, (cells + blank)[:n_columns]) for number, cells in some]
        filled = [(number, cells) for number, cells in filled if "".join(cells).strip()]
        if filled:
            columns = zip(*(cells for _, cells in filled), strict=True)
            yield RowBatch(
                [pa.array(column, type=pa.large_string()) for column in columns],
                np.array([number for number, _ in filled], dtype=np.int64),
            )
