"""Which rows train a model and which rows judge it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.prepared import PreparedSplit
from datasets.task import Task


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fold:
    """Row numbers of a `PreparedSplit`, both int64 and ascending."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


class Division(ABC):
    """A way to divide what is not test data; a run trains one model for each fold.

    A fold with an empty validation part is trained to the last epoch, whose weights are kept.
    """

    @abstractmethod
    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return one or more folds, the same for the same split; a UserError says why the task can't be so divided."""


class Validation(Division):
    """A way to divide in which every fold has rows that judge it: what studies choose by."""


class Holdout(Validation):
    """The split's own validation part: one fold."""

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the one fold; neither of its parts is empty, or the split would not have been read."""
        return (
            Fold(
                train=np.flatnonzero(~split.validation).astype(np.int64),
                validation=np.flatnonzero(split.validation).astype(np.int64),
            ),
        )
