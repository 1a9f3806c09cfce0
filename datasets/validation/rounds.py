"""Validation by rounds of measurement: what was measured later judges what was learnt before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import (
    MIN_TRAIN,
    MIN_VALIDATION,
    ON_RANDOM_ROWS,
    Dealt,
    Fold,
    KFold,
    Validation,
    at_least,
    check_size,
)


class Rounds(Validation):
    """The rounds of `--round-column`, each validated by a model that trained on all rounds before it.

    The first one trains alone. `n_rounds` is how many rounds there are outside of the test data; None is found out by
    `of`.
    """

    stands_for = "validated on rounds that were measured after all that was trained on"
    is_of_whole = False  # what another property was measured in before says nothing of this one
    judges_selected = True

    def __init__(self, *, n_rounds: int | None = None) -> None:
        if n_rounds is not None and n_rounds < 2:
            raise ValueError(f"n_rounds is {n_rounds}, expected at least 2")
        self.n_rounds = n_rounds

    @property
    def n_folds_in_all(self) -> int:
        """One for each round but the first, at most."""
        if self.n_rounds is None:
            raise ValueError("rounds have to be counted in a split before there are folds")
        return self.n_rounds - 1

    @property
    def shown(self) -> str:
        """Name and number of rounds."""
        return (
            "rounds" if self.n_rounds is None else "round 2" if self.n_rounds == 2 else f"rounds 2 to {self.n_rounds}"
        )

    def of(self, split: PreparedSplit, task: Task) -> Rounds:
        """Return the protocol for a split, whose rounds are counted; errors are those of `folds`."""
        return self if self.n_rounds is not None else Rounds(n_rounds=len(rounds_of(split, task)))

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds; a UserError is raised without two rounds, or where none can judge."""
        rounds = rounds_of(split, task)
        check_size(split, task, self.shown)
        if self.n_rounds not in (None, len(rounds)):
            raise UserError(
                f"validation.n_rounds={self.n_rounds} is not the number of rounds that {task.name} has outside of its "
                f"test data, which is {len(rounds)}: leave it out, and it is found."
            )
        assert split.fold is not None
        found = [
            Fold(train=np.flatnonzero(split.fold < number), validation=np.flatnonzero(split.fold == number))
            for number in rounds[1:]
        ]
        for fold, number in zip(found, rounds[1:], strict=True):
            if len(fold.train) < MIN_TRAIN or len(fold.validation) < MIN_VALIDATION:
                raise UserError(
                    f"Round {split.fold_names[number]!r} of {task.name} has {len(fold.validation)} sequences outside "
                    f"of its test data, and the rounds before it {len(fold.train)}: expected at least {MIN_VALIDATION} "
                    f"and {MIN_TRAIN}; give it the name of the round before it, or use validation=kfold."
                )
        return tuple(found)


class BeforeRound(Dealt):
    """`KFold` of what was measured before a round, as if nothing had been measured since.

    `number` is the round's place among the names of all rounds, from 0.
    """

    name = "kfold"
    stands_for = ON_RANDOM_ROWS
    is_of_whole = False

    def __init__(self, *, number: int, n_folds: int, seed: int) -> None:
        super().__init__(n_folds=n_folds, seed=seed)
        self.number = at_least(1, number=number)

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds, whose rows are those of the whole split; a UserError is raised for too few sequences."""
        rounds_of(split, task)
        assert split.fold is not None
        rows = np.flatnonzero(split.fold < self.number)
        known = replace(split, residues=split.residues[rows], lengths=split.lengths[rows], target=split.target[rows])
        of_known = KFold(n_folds=self.n_folds, seed=self.seed).folds(known, task)
        return tuple(Fold(train=rows[fold.train], validation=rows[fold.validation]) for fold in of_known)


def rounds_of(split: PreparedSplit, task: Task) -> list[int]:
    """Return the numbers of the rounds outside of the test data, in their order; a UserError says there are too few."""
    if split.fold is None:
        raise UserError(
            f"{task.name} names no rounds, which validation=rounds needs: name their column with --round-column, or "
            "use validation=kfold."
        )
    found: list[int] = np.unique(split.fold).tolist()
    if len(found) < 2:
        raise UserError(
            f"{task.name} has one round outside of its test data, and validation=rounds needs two: use "
            "validation=kfold."
        )
    return found
