"""Read a table of any format that is known; what the file holds decides which, not its name."""

from __future__ import annotations

from pathlib import Path

from datasets.common.errors import UserError
from datasets.tables.columns import Columns
from datasets.tables.delimited import open_delimited
from datasets.tables.excel.workbook import is_excel, open_excel
from datasets.tables.fasta import read_fasta
from datasets.tables.parquet import open_parquet
from datasets.tables.text_file import first_bytes


def read_columns(path: Path, sheet: str | None = None) -> Columns:
    """Read a table of any format that is known: CSV, TSV, FASTA (each plain or gzipped), Parquet or Excel.

    What the file holds decides, not its name. `sheet`: of an Excel file, the one that is read. A UserError is one
    sentence with the line that cannot be read.
    """
    start = first_bytes(path)
    if sheet is not None and not is_excel(start):
        raise UserError(f"{path} is no Excel file, so it has no sheet {sheet!r}: leave --sheet out.")
    if is_excel(start):
        columns = open_excel(path, sheet).columns()
    elif start.startswith(b"PAR1"):
        columns = open_parquet(path).columns()
    elif is_fasta(start):
        columns = read_fasta(path)
    else:
        columns = open_delimited(path).columns()
    if not len(columns):
        raise UserError(f"{path} has no rows: after its header a {columns.place} for each variant is expected.")
    return columns


def is_fasta(start: bytes) -> bool:
    """Return whether a file's first bytes are those of FASTA, in any encoding."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().replace(b"\0", b"").lstrip(b"\xff\xfe").startswith(b">")
