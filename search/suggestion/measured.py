"""What was measured already: the sequences of an experiment's data, and the best of them."""

from dataclasses import dataclass

import numpy as np

from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import PreparedSplit, test_sequences


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The different sequences of an experiment's data.

    known: those of training and validation. tested: the others of the test set, of which nothing but the sequences is
    read. best, best_value: the known one with the highest measured value, the mean where it was measured several times;
    of equal ones the first.
    """

    known: frozenset[bytes]
    tested: frozenset[bytes]
    best: str
    best_value: float

    def __contains__(self, sequence: bytes) -> bool:
        """Whether it was measured, wherever it stands."""
        return sequence in self.known or sequence in self.tested


def measured(split: PreparedSplit) -> Measured:
    """Look at the rows of a split."""
    places: dict[bytes, int] = {}
    row = np.array([places.setdefault(one, len(places)) for one in as_bytes(split.residues, split.lengths)])
    means = np.bincount(row, weights=split.target.astype(np.float64)) / np.bincount(row)
    best = int(means.argmax())
    known = frozenset(places)
    return Measured(
        known=known,
        tested=frozenset(as_bytes(*test_sequences(split))) - known,
        best=list(places)[best].decode("ascii"),
        best_value=float(means[best]),
    )
