"""Scores that know nothing of gaps, or of other chains: of the columns in which the wild type has what they know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.alphabet import GAP


class _Scorer(Protocol):
    @property
    def names(self) -> tuple[str, ...]: ...

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignedScores:
    """K scores by `scorer`, which knows the wild type without its gaps, of sequences that are aligned to `wild_type`.

    A variant has no score (NaN) where it lacks a residue of the wild type, or has one where the wild type has none.
    """

    scorer: _Scorer
    wild_type: str

    @property
    def names(self) -> tuple[str, ...]:
        """The columns (K)."""
        return self.scorer.names

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L) of lengths (N,); NaN: missing."""
        is_residue = np.frombuffer(self.wild_type.encode(), dtype=np.uint8) != ord(GAP)
        found = np.full((len(lengths), len(self.names)), np.nan, dtype=np.float32)
        rows = np.flatnonzero(lengths == len(is_residue))
        if len(rows):
            some = residues[rows, : len(is_residue)]
            found[rows] = self.scorer.score(some[:, is_residue], np.full(len(rows), np.count_nonzero(is_residue)))
            found[rows[(some != ord(GAP)) @ ~is_residue]] = np.nan
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainScores:
    """K scores by `scorer`, which knows one chain alone, of proteins whose columns from `start` to `stop` are that."""

    scorer: _Scorer
    start: int
    stop: int

    @property
    def names(self) -> tuple[str, ...]:
        """The columns (K)."""
        return self.scorer.names

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L) of lengths (N,); NaN: missing."""
        own = np.ascontiguousarray(residues[:, self.start : self.stop])
        return self.scorer.score(own, np.clip(lengths - self.start, 0, self.stop - self.start))
