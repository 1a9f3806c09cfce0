"""Validation parts that differ from what was trained on as the test part does."""

from __future__ import annotations

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.mutation_counts import Mutations, find_mutations
from datasets.splits.prepared import PreparedSplit, test_sequences
from datasets.task import Shift, Task
from datasets.validation.protocols import MIN_SEQUENCES, Dealt, Fold, Validation, check_size, checked, fold_of, shuffled

_MOST = 0.95  # of the sequences of a part: FLIP's variants with stop codons stand among those with fewer mutations


class Shifted(Validation):
    """The split's own shift once more inside train and validation together: one fold.

    Where the test variants have more mutations than all others: the most mutated are validated, the highest number of
    mutations and, as long as these are fewer than 20 rows, the next lower ones. Where they are fitter: the fittest
    `fraction` is validated, rows of equal fitness together.
    """

    n_folds_in_all = 1
    shown = "shifted"
    stands_for = "validated on variants that differ from training as the test variants do, by mutations or fitness"

    def __init__(self, *, fraction: float) -> None:
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}, expected between 0 and 1")
        self.fraction = fraction

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the fold; a UserError is raised without a shift, or if one of the parts would be too small."""
        check_size(split, task, self.shown)
        shift = find_shift(split, task)
        if shift == "mutations":
            fold = self._by_mutations(split, task)
        elif shift == "fitness":
            n = max(1, round(self.fraction * len(split.target)))
            fold = fold_of(split.target >= np.sort(split.target)[-n])
        else:
            raise UserError(
                f"{task.name} has no shift for validation=shifted to repeat: its test sequences have neither more "
                "mutations than the others nor are they known to be fitter; use validation=kfold."
            )
        return checked((fold,), task, self.shown)

    def _by_mutations(self, split: PreparedSplit, task: Task) -> Fold:
        counts = mutations_of(split, task, self.shown).counts
        lowest = int(np.sort(counts)[-MIN_SEQUENCES])
        if not ((counts > 0) & (counts < lowest)).any():
            raise UserError(
                f"{task.name} has one mutation class only outside of its test data ({lowest} or more mutations), so "
                "validation=shifted has no variants with fewer mutations to train on: use validation=kfold."
            )
        return fold_of(counts >= lowest)


class ByPosition(Dealt):
    """Mutated positions that no training variant has: the positions, shuffled, are dealt out to `n_folds` folds.

    A fold validates the variants with a mutation at one of its positions and trains on all others, so a variant with
    several mutations may be validated in several folds, and the wild type is in none.
    """

    name = "by_position"
    stands_for = "validated on positions that training lacks"

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds; a UserError is raised without a wild type, or for too few positions or variants."""
        check_size(split, task, self.shown)
        sites = mutations_of(split, task, self.shown).sites
        positions = np.flatnonzero(sites.any(axis=0))
        if len(positions) < self.n_folds:
            raise UserError(
                f"validation.n_folds={self.n_folds} is more than the {len(positions)} mutated positions that "
                f"{task.name} has outside of its test data: "
                + (f"expected 2 to {len(positions)}." if len(positions) > 1 else "use validation=kfold.")
            )
        order = positions[shuffled(len(positions), "positions", self.seed)]
        parts = [sites[:, order[number :: self.n_folds]] for number in range(self.n_folds)]
        return checked(tuple(fold_of(np.any(part, axis=1)) for part in parts), task, self.shown)


def find_shift(split: PreparedSplit, task: Task) -> Shift:
    """Return how test differs from train: what the task says, otherwise what the sequences say.

    Test variants have more mutations if 95 of 100 have more than 95 of 100 of the others. Test targets are not known,
    so that test variants are fitter is what a task has to say.
    """
    if task.shift is not None or task.wild_type is None:
        return task.shift or "none"
    counts = find_mutations(split.residues, split.lengths, task.wild_type).counts
    test_counts = find_mutations(*test_sequences(split), task.wild_type).counts
    return "mutations" if np.quantile(test_counts, 1 - _MOST) > np.quantile(counts, _MOST) else "none"


def mutations_of(split: PreparedSplit, task: Task, protocol: str) -> Mutations:
    """Return the mutations of train and validation; a UserError says that the task has no wild type."""
    if task.wild_type is None:
        raise UserError(
            f"{task.name} has no wild type, which {protocol} needs to tell mutations by: use validation=kfold."
        )
    return find_mutations(split.residues, split.lengths, task.wild_type)
