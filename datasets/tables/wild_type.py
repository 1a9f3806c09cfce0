"""What the variants of a table have in common: the wild type, and where they differ from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.packed import Aligned, Packed
from datasets.sequences.sites import written_sites
from datasets.tables.findings import Findings
from datasets.tables.replicates import list_of_rows

_ROWS = 4096  # compared at a time
_FEW_REPLICATES = 3


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


def check_wild_type_rows(
    keys: NDArray[np.uint8] | Sequence[bytes],
    measured: NDArray[np.float64],
    measured_rows: NDArray[np.int64],
    first: NDArray[np.int64],
    common: Common,
    findings: Findings,
) -> None:
    """Find the wild type's sequence under targets that cannot all be its own."""
    if common.n_mutations is None or common.n_mutations.all():
        return
    wild = np.flatnonzero(common.n_mutations == 0)
    if isinstance(keys, np.ndarray):
        if len(first) == len(keys):
            return  # each sequence was measured once
        keys = list_of_rows(keys)
    key = keys[int(first[wild[0]])]
    at = [i for i, other in enumerate(keys) if other == key]
    if len(at) < _FEW_REPLICATES or measured[at].std() <= measured.std() / 2:
        return
    findings.add(
        "warning",
        f"the wild type's sequence has targets from {measured[at].min():g} to {measured[at].max():g}: this is how "
        "stop codons are often written",
        measured_rows[at].tolist(),
        remedy="remove the lines that are not the wild type",
    )
