"""Which rows train a model and which rows judge it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.seeds import derive_seed
from datasets.splits.prepared import PreparedSplit
from datasets.tables.table import MOST_FOLDS
from datasets.task import Task
from datasets.validation.names import target_of

MIN_SEQUENCES = 20  # of train and validation together: below, no other protocol says more than the split's own part
MIN_TRAIN = 10  # of a fold
MIN_VALIDATION = 3  # of a fold: two can only be in order or not
ON_RANDOM_ROWS = "validated on random rows of the same distribution as training"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fold:
    """Row numbers of a `PreparedSplit`, both int64 and ascending."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


class Division(ABC):
    """A way to divide what is not test data; a run trains one model for each fold.

    A fold with an empty validation part is trained to the last epoch, whose weights are kept.
    """

    @property
    def is_of_whole(self) -> bool:
        """Whether, of one of several properties, the rows that any of them has are divided, not its own alone."""
        return True

    @abstractmethod
    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return one or more folds, the same for the same split; a UserError says why the task can't be so divided."""


class Validation(Division):
    """A way to divide in which every fold has rows that judge it: what studies choose by.

    A row may be validated in several folds; its prediction is then the mean of theirs. An instance has the arguments of
    its constructor as attributes, and no others.
    """

    @property
    @abstractmethod
    def n_folds_in_all(self) -> int:
        """How many folds there are, for whatever split."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """What people read wherever a value is shown: "kfold of 5"."""

    @property
    def stands_for(self) -> str:
        """What a value was found on, as a sentence has it: "validated on random rows ..."."""
        return f"validated by {self.shown}"

    @property
    def judges_selected(self) -> bool:
        """Whether the rows that judge were selected by what was measured before: a line through them fits no others."""
        return False

    @property
    def tree(self) -> dict[str, Any]:
        """The config that builds this object."""
        return {"_target_": target_of(type(self)), **vars(self)}


class Holdout(Validation):
    """The split's own validation part: one fold."""

    n_folds_in_all = 1
    shown = "holdout"
    stands_for = "validated on the split's own validation part"

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the one fold; neither of its parts is empty, or the split would not have been read."""
        return (fold_of(split.validation),)


class Dealt(Validation):
    """What is dealt out to `n_folds` folds in an order that depends on `seed`; each fold validates its own part."""

    name: str

    def __init__(self, *, n_folds: int, seed: int) -> None:
        self.n_folds = at_least(2, n_folds=n_folds)
        if n_folds > MOST_FOLDS:
            raise ValueError(f"n_folds is {n_folds}, expected at most {MOST_FOLDS}")
        self.seed = at_least(0, seed=seed)

    @property
    def n_folds_in_all(self) -> int:
        """As many as were asked for."""
        return self.n_folds

    @property
    def shown(self) -> str:
        """Name and number of folds."""
        return f"{self.name} of {self.n_folds}"


class KFold(Dealt):
    """Train and validation rows together, shuffled and dealt out to `n_folds` folds, each validated once.

    Rows with the same sequence stay together, so that no model is judged on what it was trained on.
    """

    name = "kfold"
    stands_for = ON_RANDOM_ROWS

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds; a UserError is raised for too few sequences."""
        n_sequences, sequence = _distinct(split)
        check_size(split, task, self.shown)
        if n_sequences < MIN_VALIDATION * self.n_folds:
            raise UserError(
                f"validation.n_folds={self.n_folds} leaves fewer than {MIN_VALIDATION} of the {n_sequences} different "
                f"sequences of {task.name} to a fold: expected at most {n_sequences // MIN_VALIDATION} folds."
            )
        fold_number = np.empty(n_sequences, dtype=np.int64)
        fold_number[shuffled(n_sequences, "k-fold", self.seed)] = np.arange(n_sequences) % self.n_folds
        return tuple(fold_of(fold_number[sequence] == number) for number in range(self.n_folds))


class RepeatedKFold(Validation):
    """`KFold`, `n_repeats` times with other folds; a row's prediction is the mean over the repeats."""

    stands_for = ON_RANDOM_ROWS

    def __init__(self, *, n_folds: int, n_repeats: int, seed: int) -> None:
        self.n_folds = at_least(2, n_folds=n_folds)
        self.n_repeats = at_least(1, n_repeats=n_repeats)
        if n_folds * n_repeats > MOST_FOLDS:
            raise ValueError(f"n_folds times n_repeats is {n_folds * n_repeats}, expected at most {MOST_FOLDS}")
        self.seed = at_least(0, seed=seed)

    @property
    def n_folds_in_all(self) -> int:
        """Those of all repeats."""
        return self.n_folds * self.n_repeats

    @property
    def shown(self) -> str:
        """Name, number of folds and of repeats."""
        return f"repeated_kfold of {self.n_repeats} x {self.n_folds}"

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds of the first repeat, then those of the next; a UserError is raised as by `KFold`."""
        seeds = [derive_seed("repeat", self.seed, repeat) for repeat in range(self.n_repeats)]
        return tuple(fold for seed in seeds for fold in KFold(n_folds=self.n_folds, seed=seed).folds(split, task))


def fold_of(is_validation: NDArray[np.bool_]) -> Fold:
    """Return the fold that validates the rows of a mask (N,) and trains on all others."""
    return Fold(
        train=np.flatnonzero(~is_validation).astype(np.int64),
        validation=np.flatnonzero(is_validation).astype(np.int64),
    )


def n_validated(folds: Sequence[Fold]) -> int:
    """Return how many rows a value speaks of: those that are validated in at least one fold."""
    return len(np.unique(np.concatenate([fold.validation for fold in folds])))


def is_most(n_rows: Sequence[int], chosen: Sequence[bool]) -> bool:
    """Whether the chosen ones of folds with `n_rows` validated rows each hold half of all these rows or more.

    Of folds whose predictions are all the same number each: then the correlation of all predictions together speaks
    of the differences between the folds' models rather than of the variants.
    """
    return 2 * sum(n for n, is_in in zip(n_rows, chosen, strict=True) if is_in) >= sum(n_rows)


def checked(folds: tuple[Fold, ...], task: Task, protocol: str) -> tuple[Fold, ...]:
    """Return the folds; a UserError is raised if a part of one has too few rows."""
    for fold in folds:
        for part, n, least in (
            ("training", len(fold.train), MIN_TRAIN),
            ("validation", len(fold.validation), MIN_VALIDATION),
        ):
            if n < least:
                raise UserError(
                    f"{protocol} leaves {n} {part} sequences of {task.name} to a fold, expected at least {least}: "
                    "use validation=kfold."
                )
    return folds


def shuffled(n: int, *what: int | str) -> NDArray[np.int64]:
    """Return 0 to n-1 in an order that depends on what it is for, in every version of NumPy."""
    return np.argsort(np.random.PCG64(derive_seed(*what)).random_raw(n), kind="stable")


def at_least(low: int, **value: int) -> int:
    """Return the one named value; a ValueError is raised if it is lower."""
    [(name, number)] = value.items()
    if number < low:
        raise ValueError(f"{name} is {number}, expected at least {low}")
    return number


def check_size(split: PreparedSplit, task: Task, protocol: str) -> None:
    """Raise a UserError if the split has too few rows for a protocol other than `Holdout`."""
    n = len(split.target)
    if n < MIN_SEQUENCES:
        raise UserError(
            f"{task.name} has {n} sequences in train and validation together, {protocol} needs at least "
            f"{MIN_SEQUENCES}: use validation=holdout."
        )


def _distinct(split: PreparedSplit) -> tuple[int, NDArray[np.int64]]:
    """Return how many different sequences there are, and the number (N,) of each row's."""
    known: dict[bytes, int] = {}
    numbers = [known.setdefault(row.tobytes(), len(known)) for row in split.residues]
    return len(known), np.array(numbers, dtype=np.int64)
