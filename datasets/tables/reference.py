"""The wild type of a table from ProteinGym's reference file, which has a row for each published table."""

from __future__ import annotations

from pathlib import Path

from datasets.common.errors import UserError, nearest
from datasets.tables.columns import Columns
from datasets.tables.formats.fasta import checked_wild_type, read_wild_type
from datasets.tables.formats.text_file import first_bytes
from datasets.tables.read import is_fasta, read_columns
from datasets.tables.table import stem

SEQUENCE, ID, FILE = "target_seq", "DMS_id", "DMS_filename"
"""The columns of the file that are looked at; one of the last two is enough."""


def find_wild_type(named: Path, table: Path) -> str:
    """Return the wild type, in upper case, that a FASTA file holds, or that a reference file says is the table's.

    A UserError is raised for files of another kind; see `read_wild_type` and `wild_type_of`.
    """
    if is_fasta(first_bytes(named)):
        return read_wild_type(named)
    return checked_wild_type(wild_type_of(table, named), named)


def wild_type_of(table: Path, reference: Path) -> str:
    """Return what the file says is the wild type of the table, found by the table's file name.

    Raises:
        UserError: The file is no such file, or has no row for the table, or several that differ.
    """
    columns = read_columns(reference)
    by = [name for name in (ID, FILE) if name in columns.cells]
    if SEQUENCE not in columns.cells or not by:
        raise UserError(
            f"{reference}, line 1: a wild type is read from FASTA, whose first line starts with '>', or from a "
            f"reference file as ProteinGym's, with the columns {ID} and {SEQUENCE}."
        )
    wanted = stem(table.name)
    found = {columns.cells[SEQUENCE][row].strip() for name in by for row in _rows(columns, name, wanted)}
    if len(found) != 1:
        known = [stem(cell.strip()) for cell in columns.cells[by[0]]]
        why = f"{len(found)} different rows" if found else "no row"
        raise UserError(
            f"{reference} has {why} for {wanted!r} among its {len(known)} ({', '.join(by)}): call the table as it "
            f"stands there, or name a FASTA file that holds its wild type.{nearest(wanted, known)}"
        )
    return found.pop()


def _rows(columns: Columns, name: str, wanted: str) -> list[int]:
    return [row for row, cell in enumerate(columns.cells[name]) if stem(cell.strip()) == wanted]
