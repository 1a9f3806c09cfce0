"""Training without validation, for a number of epochs that is known beforehand: what `confirm` does."""

import numpy as np
from numpy.typing import NDArray

from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import Division, Fold

_NONE: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class TrainAndValidation(Division):
    """One fold that trains on all rows that are not test data."""

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the one fold; its validation part is empty."""
        return (Fold(train=np.arange(len(split.target), dtype=np.int64), validation=_NONE),)


class TrainAlone(Division):
    """One fold that trains on the split's training part, the validation part left out."""

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the one fold; its validation part is empty."""
        return (Fold(train=np.flatnonzero(~split.validation).astype(np.int64), validation=_NONE),)
