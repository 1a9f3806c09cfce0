"""Read a table of any format that is known; what the file holds decides which, not its name."""

from __future__ import annotations

from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import FileState, file_state
from datasets.tables.columns import Columns, TableStream
from datasets.tables.excel.workbook import is_excel, open_excel
from datasets.tables.formats.delimited import open_delimited
from datasets.tables.formats.fasta import read_fasta
from datasets.tables.formats.parquet import open_parquet
from datasets.tables.formats.text_file import PARQUET, first_bytes


def read_columns(path: Path, sheet: str | None = None) -> Columns:
    """Read a table of any format that is known: CSV, TSV, FASTA (each plain or gzipped), Parquet or Excel.

    What the file holds decides, not its name. `sheet`: of an Excel file, the one that is read. A UserError is one
    sentence with the line that cannot be read.
    """
    is_records = sheet is None and is_fasta(first_bytes(path))
    columns = read_fasta(path) if is_records else open_table(path, sheet).columns()
    if not len(columns):
        raise UserError(f"{path} has no rows: after its header a {columns.place} for each variant is expected.")
    return columns


def read_undisturbed(path: Path, sheet: str | None = None) -> tuple[Columns, FileState]:
    """Read a table as `read_columns` does; the second value is the state of the file that was read."""
    before = file_state(path)
    columns = read_columns(path, sheet)
    if file_state(path) != before:
        raise UserError(f"{path} was saved while it was read: start the command again.")
    return columns, before


def open_table(path: Path, sheet: str | None = None, *, usual_sheet: str | None = None) -> TableStream:
    """Open a table with named columns as `read_columns` does, to be read some rows at a time.

    `usual_sheet`: of an Excel file of several sheets, the one that is read where none is named, if it has it.
    """
    start = first_bytes(path)
    if is_excel(start):
        return open_excel(path, sheet, usual_sheet)
    if sheet is not None:
        raise UserError(f"{path} is no Excel file, so it has no sheet {sheet!r}: leave --sheet out.")
    return open_parquet(path) if is_parquet(start) else open_delimited(path)


def is_parquet(start: bytes) -> bool:
    """Return whether a file's first bytes are those of Parquet."""
    return start.startswith(PARQUET)


def is_fasta(start: bytes) -> bool:
    """Return whether a file's first bytes are those of FASTA, in any encoding, below comments if there are any."""
    lines = start.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe").splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith(b";")), b"")
    return first.lstrip().startswith(b">")
