"""The effect of every single mutation of a wild type, positions by residues, and which of them were measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
MOST_POSITIONS = 5000
"""Of a map that is drawn."""
_COLUMN = np.full(256, -1, dtype=np.int64)  # of a residue in a map
_COLUMN[list(RESIDUES.encode())] = np.arange(len(RESIDUES))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MeasuredSingles:
    """What single mutants of P positions were measured at.

    singles: (P, 20) float32, the mean of a mutant's rows in the unit of the assay, NaN where there are none; residues
    in the order of `RESIDUES`. wild_type: likewise of the wild type itself.
    """

    singles: NDArray[np.float32]
    wild_type: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MutationMap:
    """Predicted effects of the single mutations of P positions.

    wild_type: its residues at these positions (P). first: the number of the first of them, as its mutations count;
    names: what each is called (P), where it is in a chain.
    effect: (P, 20) float32, the prediction of the mutant minus that of the wild type, in `units`, residues in the order
    of `RESIDUES`; 0 for the wild type's own residue, NaN where there is no prediction. prediction: of the wild type.
    measured: None where the training data was not looked at. relevance: (P,) of each position, NaN where it is not
    known; None of models that have none. n_models: whose mean the predictions are. remarks: sentences for the reader.
    """

    wild_type: str
    first: int
    effect: NDArray[np.float32]
    prediction: float
    units: str
    n_models: int
    measured: MeasuredSingles | None = None
    relevance: NDArray[np.float64] | None = None
    remarks: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """What each position is called: the wild type's residue and the number, `V39`; in a chain `V H39`."""
        if self.names:
            return [f"{residue} {name}" for residue, name in zip(self.wild_type, self.names, strict=True)]
        return [f"{residue}{self.first + place}" for place, residue in enumerate(self.wild_type)]

    @property
    def is_wild_type(self) -> NDArray[np.bool_]:
        """Which cells (P, 20) are the wild type's own residue."""
        return is_own_residue(self.wild_type)

    @property
    def is_measured(self) -> NDArray[np.bool_]:
        """Which cells (P, 20) were measured."""
        if self.measured is None:
            return np.zeros(self.effect.shape, dtype=np.bool_)
        return np.isfinite(self.measured.singles)


def is_own_residue(wild_type: str) -> NDArray[np.bool_]:
    """Return which cells (P, 20) of a map are the wild type's own residue."""
    columns = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
    is_own: NDArray[np.bool_] = np.frombuffer(wild_type.encode(), dtype=np.uint8)[:, None] == columns
    return is_own


def measured_singles(
    wild_type: str,
    positions: range,
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    target: NDArray[np.float32],
) -> MeasuredSingles:
    """Find the single mutants among measured sequences.

    Args:
        wild_type: the whole sequence.
        positions: those of the map, counted from 0.
        residues: (N, Lmax) uint8, ASCII codes of whole sequences, padded with zeros.
        lengths: (N,).
        target: (N,) what they were measured at.
    """
    letters = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    sums, counts = np.zeros((2, len(positions), len(RESIDUES)))
    same = np.flatnonzero(lengths == len(letters))
    if not len(same):
        return MeasuredSingles(singles=np.full(sums.shape, np.nan, dtype=np.float32), wild_type=float("nan"))
    kept, values = residues[same, : len(letters)], target[same].astype(np.float64)
    differs = kept != letters
    n_mutations = np.count_nonzero(differs, axis=1)
    single = np.flatnonzero(n_mutations == 1)
    at = differs[single].argmax(axis=1)
    column = _COLUMN[kept[single, at]]
    inside = (at >= positions.start) & (at < positions.stop) & (column >= 0)
    cells = (at[inside] - positions.start, column[inside])
    np.add.at(sums, cells, values[single[inside]])
    np.add.at(counts, cells, 1)
    own = values[n_mutations == 0]
    with np.errstate(invalid="ignore"):
        singles = (sums / counts).astype(np.float32)
    return MeasuredSingles(singles=singles, wild_type=float(own.mean()) if len(own) else float("nan"))
