"""The folds of a split; those of one of several properties are the same for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import PreparedSplit, load_prepared
from datasets.task import Task
from datasets.validation.protocols import MIN_TRAIN, MIN_VALIDATION, Division, Fold


def whole_of(split: PreparedSplit) -> PreparedSplit:
    """Return the split of the rows that any of several properties has, or the split itself where there is but one."""
    return split if split.whole is None else load_prepared(split.whole)


def folds_of_split(division: Division, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
    """Return the folds into which a split is divided.

    Of one of several properties these are the folds of all rows that any of them has, without the rows that this one
    lacks: a row that a fold validates for one property is validated by the same fold for all that have it. Rounds are
    those in which this property was measured.

    Raises:
        UserError: The split cannot be divided so, or a fold is left with too few rows of this property.
    """
    whole = whole_of(split) if division.is_of_whole else split
    folds = division.folds(whole, task)
    if whole is split:
        return folds
    # Where every measurement is kept, a sequence has several rows: one of them stands for all.
    n_whole_rows, place = len(whole.lengths), {key: row for row, key in enumerate(_keys(whole))}
    rows = np.array([place[key] for key in _keys(split)], dtype=np.int64)
    found = tuple(
        Fold(train=_among(fold.train, rows, n_whole_rows), validation=_among(fold.validation, rows, n_whole_rows))
        for fold in folds
    )
    for own, fold in zip(found, folds, strict=True):
        for part, n, n_whole, least in (
            ("training", len(own.train), len(fold.train), MIN_TRAIN),
            ("validation", len(own.validation), len(fold.validation), MIN_VALIDATION),
        ):
            if n < min(least, n_whole):
                raise UserError(
                    f"A fold of all properties of {task.name} leaves {n} {part} sequences to {task.units!r}, expected "
                    f"at least {least}: too few were measured; search this --target-column by itself."
                )
    return found


def _keys(split: PreparedSplit) -> list[tuple[bytes, bool]]:
    """What tells rows apart: sequence and part."""
    return list(zip(as_bytes(split.residues, split.lengths), split.validation.tolist(), strict=True))


def _among(chosen: NDArray[np.int64], rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The numbers of those rows, given by their places among n, that are chosen."""
    is_chosen = np.zeros(n, dtype=np.bool_)
    is_chosen[chosen] = True
    return np.flatnonzero(is_chosen[rows]).astype(np.int64)
