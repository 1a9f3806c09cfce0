"""How sequences differ from the wild type: how many mutations, and at which of its positions.

The rule: a sequence as long as the wild type has a mutation wherever its residue is another one. One of another length
is aligned to the wild type with the fewest changes (Levenshtein 1966); a substitution, a deletion and an inserted
residue each count as one mutation. A substitution and a deletion stand at the wild type's residue that they change, an
insertion at the residue that it comes before (at the end: at the last one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_CELLS = 2**24  # of the alignments that are held at a time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mutations:
    """The mutations of N sequences.

    counts: (N,) int64. sites: (N, W) bool, True at the W residues of the wild type where there is at least one.
    """

    counts: NDArray[np.int64]
    sites: NDArray[np.bool_]


def find_mutations(residues: NDArray[np.uint8], lengths: NDArray[np.int64], wild_type: str) -> Mutations:
    """Compare sequences, residues (N, Lmax) as ASCII codes padded at the end and lengths (N,), with the wild type."""
    wild = np.frombuffer(wild_type.encode("ascii"), dtype=np.uint8)
    sites = np.zeros((len(residues), len(wild)), dtype=np.bool_)
    same = np.flatnonzero(lengths == len(wild))
    if same.size:  # otherwise there may be fewer columns
        sites[same] = residues[same, : len(wild)] != wild
    counts = sites.sum(axis=1, dtype=np.int64)
    other = np.flatnonzero(lengths != len(wild))
    if other.size:
        # One residue of each is left over, and one more at the end, so that an insertion has a place.
        n_most = min(int(lengths[other].min()), len(wild)) - 1
        first, last = common_ends(residues[other], lengths[other], wild, n_most)
        last = max(0, last - 1)
        longest = int(lengths[other].max()) - first - last
        n_rows = max(1, _MOST_CELLS // ((longest + 1) * (len(wild) - first - last + 1)))
        for start in range(0, len(other), n_rows):
            rows = other[start : start + n_rows]
            middle = residues[rows, first : first + longest]
            counts[rows], sites[rows, first : len(wild) - last] = _align(
                middle, lengths[rows] - first - last, wild[first : len(wild) - last]
            )
    return Mutations(counts=counts, sites=sites)


def common_ends(
    residues: NDArray[np.uint8], lengths: NDArray[np.int64], wild: NDArray[np.uint8], n_most: int
) -> tuple[int, int]:
    """How many residues all sequences share with the wild type at the start and, without those, at the end.

    `n_most`, no more than the shortest has, limits both together.
    """
    is_shared = (residues[:, :n_most] == wild[:n_most]).all(axis=0)
    first = int(np.argmin(is_shared)) if not is_shared.all() else n_most
    last = 0
    while last < n_most - first and (residues[np.arange(len(lengths)), lengths - 1 - last] == wild[-1 - last]).all():
        last += 1
    return first, last


def _align(
    residues: NDArray[np.uint8], lengths: NDArray[np.int64], wild: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Counts (n,) and sites (n, W) of n sequences in an alignment of fewest changes."""
    n, longest, width = len(residues), int(lengths.max(initial=0)), len(wild)
    kind = np.int16 if longest + width <= np.iinfo(np.int16).max else np.int32
    columns = np.arange(width + 1, dtype=kind)
    # cost[i][row, j]: changes between the first i residues of the sequence and the first j of the wild type.
    cost = np.empty((longest + 1, n, width + 1), dtype=kind)
    cost[0] = columns
    for n_residues in range(longest):
        best = cost[n_residues] + kind(1)  # the next residue is inserted
        replaced = cost[n_residues][:, :-1] + (residues[:, n_residues, None] != wild)
        best[:, 1:] = np.minimum(best[:, 1:], replaced)
        # Deletions, any number after one another.
        cost[n_residues + 1] = np.minimum.accumulate(best - columns, axis=1) + columns
    rows = np.arange(n)
    i, j = lengths.astype(np.int64), np.full(n, width, dtype=np.int64)
    counts = cost[i, rows, j].astype(np.int64)
    sites = np.zeros((n, width), dtype=np.bool_)
    while True:
        active = np.flatnonzero((i > 0) | (j > 0))
        if not active.size:
            return counts, sites
        a, b = i[active], j[active]
        here = cost[a, active, b]
        differs = residues[active, np.maximum(a - 1, 0)] != wild[np.maximum(b - 1, 0)]
        both = (a > 0) & (b > 0)
        is_pair = both & (cost[np.maximum(a - 1, 0), active, np.maximum(b - 1, 0)] + differs == here)
        is_insertion = ~is_pair & (a > 0) & (cost[np.maximum(a - 1, 0), active, b] + 1 == here)
        site = np.where(is_insertion, np.minimum(b, width - 1), b - 1)
        changed = ~is_pair | differs
        sites[active[changed], site[changed]] = True
        i[active] -= is_pair | is_insertion
        j[active] -= ~is_insertion
