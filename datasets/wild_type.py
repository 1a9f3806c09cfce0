"""What the variants of a table have in common: the wild type, and where they differ from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.sites import written_sites

_ROWS = 4096  # compared at a time


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


def codes_of(sequences: Sequence[str]) -> NDArray[np.uint8]:
    """Return (N, L) ASCII codes of sequences of one length L."""
    return np.frombuffer("".join(sequences).encode("ascii"), dtype=np.uint8).reshape(len(sequences), -1)


def lengths_of(sequences: Sequence[str]) -> NDArray[np.int64]:
    """Return the lengths (N,)."""
    return np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))


def consensus(sequences: Sequence[str]) -> str | None:
    """Return the residues that more than half of the sequences (of one length) have at each position.

    None where the lengths differ or a position has no such residue: then it cannot stand for the wild type.
    """
    if len(sequences) < 3 or len(set(map(len, sequences))) != 1:
        return None
    codes = codes_of(sequences)
    # If more than half agree, the middle one in the order of the codes is theirs; a sample finds it, all confirm it.
    sample = codes[:: max(1, len(codes) // 1001)]
    middle = np.sort(sample, axis=0)[len(sample) // 2]
    agreeing = sum((codes[i : i + _ROWS] == middle).sum(axis=0) for i in range(0, len(codes), _ROWS))
    return middle.tobytes().decode() if (2 * agreeing > len(codes)).all() else None


def compare(sequences: Sequence[str], wild_type: str | None) -> Common:
    """Return what the sequences (N >= 1) have in common."""
    lengths = lengths_of(sequences)
    longest = int(lengths.max())
    if (lengths != longest).any():
        start, end = _shared_ends(sequences, int(lengths.min()))
        window = (start, -end) if start + end > 0 else None
        return Common(lengths=lengths, n_mutations=None, mutated=None, positions=None, sites=None, window=window)
    codes = codes_of(sequences)
    reference = codes[0] if wild_type is None or len(wild_type) != longest else _codes(wild_type)
    varies = np.zeros(longest, dtype=np.bool_)
    for i in range(0, len(codes), _ROWS):
        varies |= (codes[i : i + _ROWS] != reference).any(axis=0)
    at = np.flatnonzero(varies)
    mutated = codes[:, at] != reference[at]
    has_wild_type = wild_type is not None and len(wild_type) == longest
    return Common(
        lengths=lengths,
        n_mutations=mutated.sum(axis=1, dtype=np.int64) if has_wild_type else None,
        mutated=mutated if has_wild_type else None,
        positions=at + 1 if has_wild_type else None,
        sites=written_sites((at + 1).tolist()) if 0 < len(at) < longest else None,
        window=None,
    )


def _codes(sequence: str) -> NDArray[np.uint8]:
    return np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)


def _shared_ends(sequences: Sequence[str], shortest: int) -> tuple[int, int]:
    """Return how many residues all sequences begin with, and then end with."""
    low, high = min(sequences), max(sequences)
    start = _n_shared(low, high, shortest)
    back = [sequence[-1 : -shortest - 1 + start : -1] if shortest > start else "" for sequence in sequences]
    return start, _n_shared(min(back), max(back), shortest - start)


def _n_shared(a: str, b: str, most: int) -> int:
    return next((i for i in range(min(most, len(a), len(b))) if a[i] != b[i]), min(most, len(a), len(b)))
