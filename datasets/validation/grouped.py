"""Validation parts of whole groups, as a test part of whole groups is."""

from __future__ import annotations

import numpy as np

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import Dealt, Fold, check_size, checked, fold_of, shuffled


class ByGroup(Dealt):
    """Groups that no training variant belongs to: whole groups, in `n_folds` folds of about the same size.

    The groups are those of `--group-column`. The larger ones come first, those of about one size (up to a factor of
    two) in an order that depends on `seed`, and each goes to the fold that has the fewest rows by then. A fold
    validates the variants of its groups and trains on all others.
    """

    name = "by_group"
    stands_for = "validated on whole groups that training lacks"

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds; a UserError is raised without groups, or for too few groups or variants."""
        if split.group is None:
            raise UserError(
                f"{task.name} has no groups, which validation=by_group needs: name their column with --group-column, "
                "or use validation=kfold."
            )
        check_size(split, task, self.shown)
        names, group, sizes = np.unique(split.group, return_inverse=True, return_counts=True)
        if len(names) < self.n_folds:
            raise UserError(
                f"validation.n_folds={self.n_folds} is more than the {len(names)} groups that {task.name} has outside "
                "of its test data: " + (f"expected 2 to {len(names)}." if len(names) > 1 else "use validation=kfold.")
            )
        order = shuffled(len(names), "groups", self.seed)
        fold_of_group = np.empty(len(names), dtype=np.int64)
        n_rows = np.zeros(self.n_folds, dtype=np.int64)
        magnitude = np.floor(np.log2(sizes)).astype(np.int64)
        for number in order[np.argsort(-magnitude[order], kind="stable")].tolist():
            fold_of_group[number] = smallest = int(n_rows.argmin())
            n_rows[smallest] += sizes[number]
        fold_number = fold_of_group[group.reshape(-1)]
        folds = tuple(fold_of(fold_number == number) for number in range(self.n_folds))
        return checked(folds, task, self.shown)
