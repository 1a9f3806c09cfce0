"""Validation parts that the table itself names: its folds, as benchmarks are published with them."""

from __future__ import annotations

import numpy as np

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import Fold, Validation, at_least, check_size, checked, fold_of


class ByFold(Validation):
    """The folds of `--fold-column` that are not test data, each validated once by a model that trained on the others.

    `n_folds` is how many these have to be. They come in the order of their names, numbers by size.
    """

    stands_for = "validated on the folds that the table names"

    def __init__(self, *, n_folds: int) -> None:
        self.n_folds = at_least(2, n_folds=n_folds)

    @property
    def n_folds_in_all(self) -> int:
        """As many as were asked for."""
        return self.n_folds

    @property
    def shown(self) -> str:
        """Name and number of folds."""
        return f"by_fold of {self.n_folds}"

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds; a UserError is raised without a column of folds, for another number or too small ones."""
        if split.fold is None:
            raise UserError(
                f"{task.name} names no folds, which validation=by_fold needs: name their column with --fold-column, or "
                "use validation=kfold."
            )
        check_size(split, task, self.shown)
        numbers = np.unique(split.fold)
        if len(numbers) != self.n_folds:
            raise UserError(
                f"validation.n_folds={self.n_folds} is not the number of folds that {task.name} has outside of its "
                f"test data, which is {len(numbers)}: "
                + ("leave validation out, which takes them all." if len(numbers) > 1 else "use validation=kfold.")
            )
        return checked(tuple(fold_of(split.fold == number) for number in numbers), task, self.shown)
