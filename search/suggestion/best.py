"""The best variant that was measured."""

from typing import NamedTuple

import numpy as np

from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import PreparedSplit


class Best(NamedTuple):
    """A sequence, and what it was measured at, in the assay's unit."""

    sequence: str
    value: float


def best_measured(split: PreparedSplit) -> Best:
    """The sequence of training and validation with the highest value, the mean of several; of equal ones the first."""
    places: dict[bytes, int] = {}
    row = np.array([places.setdefault(one, len(places)) for one in as_bytes(split.residues, split.lengths)])
    means = np.bincount(row, weights=split.target.astype(np.float64)) / np.bincount(row)
    best = int(means.argmax())
    return Best(list(places)[best].decode("ascii"), float(means[best]))
