"""What variants of the wild type's length have instead of its residues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS = 1 << 15  # variants looked at together


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Substitutions:
    """The m substitutions of n variants.

    rows: (n,), the variants among those that were given. variants: (m,), whose a substitution is, counted among the n,
    ascending. positions: (m,), 0-based. letters: (m,) uint8, ASCII, what stands there now.
    """

    rows: NDArray[np.int64]
    variants: NDArray[np.int64]
    positions: NDArray[np.int64]
    letters: NDArray[np.uint8]

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum (n,) over each variant's substitutions of a value for each of these (m,)."""
        return np.asarray(np.bincount(self.variants, weights=values, minlength=len(self.rows)), dtype=np.float64)


def substitutions(residues: NDArray[np.uint8], lengths: NDArray[np.int64], wild_type: str) -> Iterator[Substitutions]:
    """Yield those of residues (N, L), ASCII with zeros behind lengths (N,); rows of another length are left out."""
    wild = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    whole = np.flatnonzero(lengths == len(wild))
    for first in range(0, len(whole), _ROWS):
        rows = whole[first : first + _ROWS]
        some = residues[rows, : len(wild)]
        variants, positions = (some != wild).nonzero()
        yield Substitutions(rows=rows, variants=variants, positions=positions, letters=some[variants, positions])
