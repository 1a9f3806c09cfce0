"""The best variant that was measured."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import PreparedSplit


class Best(NamedTuple):
    """A sequence, and what it was measured at, in the assay's unit."""

    sequence: str
    value: float


def distinct(split: PreparedSplit) -> tuple[list[bytes], NDArray[np.int64], NDArray[np.float64]]:
    """The n different sequences of training and validation in order, of each the first row (n,) and the mean (n,)."""
    places: dict[bytes, int] = {}
    number = np.array([places.setdefault(one, len(places)) for one in as_bytes(split.residues, split.lengths)])
    means = np.bincount(number, weights=split.target.astype(np.float64)) / np.bincount(number)
    return list(places), np.unique(number, return_index=True)[1], means


def best_measured(split: PreparedSplit) -> Best:
    """The sequence of training and validation with the highest value, the mean of several; of equal ones the first."""
    sequences, _, means = distinct(split)
    best = int(means.argmax())
    return Best(sequences[best].decode("ascii"), float(means[best]))
