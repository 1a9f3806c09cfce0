"""The wild type of a table, from a file that names it, and what its variants have in common with that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError, nearest
from datasets.sequences.packed import Aligned, Packed
from datasets.sequences.sites import written_sites
from datasets.tables.columns import Columns
from datasets.tables.fasta import checked_wild_type, read_wild_type
from datasets.tables.read import is_fasta, read_columns
from datasets.tables.table import stem
from datasets.tables.text_file import first_bytes

_ROWS = 4096  # compared at a time
# Of ProteinGym's reference file, which has a row for each published table; one of the last two is enough.
_SEQUENCE, _ID, _FILE = "target_seq", "DMS_id", "DMS_filename"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Common:
    """What N sequences have in common.

    lengths: (N,) int64. n_mutations: (N,) int64, None without a wild type of their one length. mutated: (N, P) bool at
    the P `positions` (1-based, int64) that vary, None likewise. sites: those positions as `39-41,54`, None where the
    lengths differ or every position varies. window: start and stop, as a Python slice has them, of what lies
    between the residues that all sequences begin and end with; only where the lengths differ.
    """

    lengths: NDArray[np.int64]
    n_mutations: NDArray[np.int64] | None
    mutated: NDArray[np.bool_] | None
    positions: NDArray[np.int64] | None
    sites: str | None
    window: tuple[int, int] | None


def consensus(sequences: Packed) -> str | None:
    """Return the residues that more than half of the sequences (of one length) have at each position.

    None where the lengths differ or a position has no such residue: then it cannot stand for the wild type.
    """
    if not isinstance(sequences, Aligned) or len(sequences) < 3:
        return None
    # If more than half agree, the middle one in the order of the codes is theirs; a sample finds it, all confirm it.
    codes, common = sequences.varying, sequences.first.copy()
    sample = codes[:: max(1, len(codes) // 1001)]
    common[sequences.varies] = middle = np.sort(sample, axis=0)[len(sample) // 2]
    agreeing = sum((codes[i : i + _ROWS] == middle).sum(axis=0) for i in range(0, len(codes), _ROWS))
    return common.tobytes().decode() if (2 * agreeing > len(codes)).all() else None


def find_common(sequences: Packed, wild_type: str | None) -> Common:
    """Return what the sequences (N >= 1) have in common."""
    lengths = sequences.lengths
    if not isinstance(sequences, Aligned):
        start, end = _shared_ends(sequences)
        window = (start, -end) if start + end > 0 else None
        return Common(lengths=lengths, n_mutations=None, mutated=None, positions=None, sites=None, window=window)
    first, varies, length = sequences.first, sequences.varies, len(sequences.first)
    if wild_type is None or len(wild_type) != length:
        sites = written_sites((varies + 1).tolist()) if 0 < len(varies) < length else None
        return Common(lengths=lengths, n_mutations=None, mutated=None, positions=None, sites=sites, window=None)
    wild = np.frombuffer(wild_type.encode("ascii"), dtype=np.uint8)
    # Where all differ from the wild type, they need not from each other.
    at = np.union1d(varies, np.flatnonzero(first != wild))
    if len(at) == len(varies):
        mutated = sequences.varying != wild[at]
    else:
        mutated = np.tile(first[at] != wild[at], (len(lengths), 1))
        mutated[:, np.searchsorted(at, varies)] = sequences.varying != wild[varies]
    return Common(
        lengths=lengths,
        n_mutations=np.einsum("ij->i", mutated.view(np.uint8), dtype=np.int64, casting="unsafe"),
        mutated=mutated,
        positions=at + 1,
        sites=written_sites((at + 1).tolist()) if 0 < len(at) < length else None,
        window=None,
    )


def _shared_ends(sequences: Packed) -> tuple[int, int]:
    """Return how many residues all sequences begin with, and then end with."""
    shortest = int(sequences.lengths.min())
    codes, last = sequences.codes(), sequences.lengths.cumsum()
    heads = codes[(last - sequences.lengths)[:, None] + np.arange(shortest)]
    start = _n_shared(heads)
    tails = codes[last[:, None] - 1 - np.arange(shortest - start)]
    return start, _n_shared(tails)


def _n_shared(codes: NDArray[np.uint8]) -> int:
    """Return in how many of their first columns all rows (N, n) agree."""
    differs = np.flatnonzero((codes != codes[0]).any(axis=0))
    return int(differs[0]) if len(differs) else codes.shape[1]


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
    by = [name for name in (_ID, _FILE) if name in columns.cells]
    if _SEQUENCE not in columns.cells or not by:
        raise UserError(
            f"{reference}, line 1: a wild type is read from FASTA, whose first line starts with '>', or from a "
            f"reference file as ProteinGym's, with the columns {_ID} and {_SEQUENCE}."
        )
    wanted = stem(table.name)
    found = {columns.cells[_SEQUENCE][row].strip() for name in by for row in _rows(columns, name, wanted)}
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
