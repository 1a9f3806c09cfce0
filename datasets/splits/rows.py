"""Check every row of a split, and turn what is not test data into arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.codes import Codes, find_foreign, joined, padded
from datasets.tables.parts import in_order
from datasets.task import RawSplit

_PARTS = ("train", "test")
_VALIDATION = {"": False, "false": False, "true": True}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """The training and validation rows, N together, and the M test rows without their targets.

    residues: (N, Lmax) uint8, ASCII codes padded with zeros; lengths: (N,) int64; target: (N,) float32;
    validation: (N,) bool; test_residues: (M, Lmax of these) uint8; test_lengths: (M,) int64. `n_overlap` counts the
    different sequences that stand in both train and test. group: (N,) int64 and test_group: (M,) int64, the same number
    for rows of one group; None where no groups are known. fold: (N,) int64, the number of each row's fold among
    `fold_names`, those of all rows in their order; None and empty where the table names none. error: (N,) float32, the
    standard errors of the targets.
    """

    residues: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    target: NDArray[np.float32]
    validation: NDArray[np.bool_]
    test_residues: NDArray[np.uint8]
    test_lengths: NDArray[np.int64]
    n_test: int
    n_overlap: int
    group: NDArray[np.int64] | None
    test_group: NDArray[np.int64] | None
    error: NDArray[np.float32] | None
    fold: NDArray[np.int64] | None
    fold_names: tuple[str, ...]


def check_rows(raw: RawSplit, clean: Callable[[str], str], *, official: bool, has_gaps: bool = False) -> Rows:
    """Check all rows, those of the test part too; a UserError names the first bad line and its value.

    `official`: the dataset's own content, in which rows without a set are no part of the split (FLIP writes
    each of its AAV splits with all variants of the assay). Elsewhere an empty set is an error. `has_gaps`: they are
    aligned sequences.
    """
    if official and "" in raw.part:
        raw = _assigned(raw)
    is_test = _parts(raw)
    is_validation = _validation(raw) & ~is_test
    for part, rows in (
        ("test", is_test),
        ("validation", is_validation),
        ("train", ~is_test & ~is_validation),
    ):
        if not rows.any():
            raise UserError(
                f"{raw.where} has an empty {part} part among its {len(rows)} rows; a split needs rows of set "
                "'train', some of them with validation 'True', and rows of set 'test'."
            )
    target = _targets(raw)
    sequences = _cleaned(raw, clean)
    codes, lengths = joined(sequences)
    _check_residues(raw, sequences, codes, lengths, has_gaps=has_gaps)
    kept = ~is_test
    train = {sequence for sequence, keep in zip(sequences, kept, strict=True) if keep}
    test = {sequence for sequence, keep in zip(sequences, kept, strict=True) if not keep}
    group = None if raw.group is None else group_numbers(raw.group)
    names = () if raw.fold is None else in_order(raw.fold)
    numbers = {name: number for number, name in enumerate(names)}
    fold = None if raw.fold is None else np.array([numbers[name] for name in raw.fold], dtype=np.int64)
    return Rows(
        residues=_residues(codes, lengths, kept),
        lengths=lengths[kept],
        target=target[kept],
        validation=is_validation[kept],
        test_residues=_residues(codes, lengths, is_test),
        test_lengths=lengths[is_test],
        n_test=int(is_test.sum()),
        n_overlap=len(train & test),
        group=None if group is None else group[kept],
        test_group=None if group is None else group[is_test],
        error=None if raw.error is None else np.asarray(raw.error, dtype=np.float32)[kept],
        fold=None if fold is None else fold[kept],
        fold_names=names,
    )


def test_targets(raw: RawSplit, *, official: bool) -> NDArray[np.float32]:
    """Return the targets (M,) of the test rows of a split that `check_rows` has passed, in the order of its test rows.

    Only `datasets.splits.held_out` calls it.
    """
    if official and "" in raw.part:
        raw = _assigned(raw)
    return _targets(raw)[_parts(raw)]


def group_numbers(group: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each row's group (N,), counted from 0 in the order of the groups' names."""
    return np.unique(np.array(group, dtype=object).astype(str), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _assigned(raw: RawSplit) -> RawSplit:
    rows = [row for row, part in enumerate(raw.part) if part]
    columns = ("sequence", "target", "part", "validation", "lines")
    chosen: dict[str, Any] = {name: [getattr(raw, name)[row] for row in rows] for name in columns}
    return replace(raw, **chosen)


def _parts(raw: RawSplit) -> NDArray[np.bool_]:
    for row, part in enumerate(raw.part):
        if part not in _PARTS:
            raise _bad(raw, row, f"the set {part!r} is neither 'train' nor 'test'")
    return np.array([part == "test" for part in raw.part], dtype=np.bool_)


def _validation(raw: RawSplit) -> NDArray[np.bool_]:
    for row, value in enumerate(raw.validation):
        if value.lower() not in _VALIDATION:
            raise _bad(raw, row, f"the validation value {value!r} is neither 'True', 'False' nor empty")
    return np.array([_VALIDATION[value.lower()] for value in raw.validation], dtype=np.bool_)


def _targets(raw: RawSplit) -> NDArray[np.float32]:
    targets = np.empty(len(raw.target), dtype=np.float64)
    for row, text in enumerate(raw.target):
        try:
            targets[row] = float(text)
        except ValueError:
            raise _bad(raw, row, f"the target {text!r} is not a number") from None
    with np.errstate(over="ignore"):
        narrow = targets.astype(np.float32)
    for row in np.flatnonzero(~np.isfinite(narrow)).tolist():
        raise _bad(raw, row, f"the target {raw.target[row]!r} is not a finite number in single precision")
    return narrow


def _cleaned(raw: RawSplit, clean: Callable[[str], str]) -> list[str]:
    cleaned = []
    for row, sequence in enumerate(raw.sequence):
        try:
            cleaned.append(clean(sequence))
        except ValueError as error:  # of other chains
            raise _bad(raw, row, str(error)) from None
    return cleaned


def _check_residues(
    raw: RawSplit, sequences: list[str], codes: Codes, lengths: NDArray[np.int64], *, has_gaps: bool
) -> None:
    for row in np.flatnonzero(lengths == 0).tolist():
        raise _bad(raw, row, f"the sequence {raw.sequence[row]!r} holds no residue")
    if (foreign := find_foreign(codes, lengths, has_gaps=has_gaps)) is not None:
        row, at = foreign
        raise _bad(raw, row, f"the residue {sequences[row][at]!r} of the sequence is not one of {ALPHABET}")


def _residues(codes: Codes, lengths: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Codes:
    """Lay out the chosen sequences as (N, Lmax), zeros at the end."""
    if (lengths == lengths[0]).all():  # mostly, and then it is a matter of copying
        return codes.reshape(len(lengths), -1)[chosen]
    return padded(codes[np.repeat(chosen, lengths)], lengths[chosen])


def _bad(raw: RawSplit, row: int, what: str) -> UserError:
    return UserError(f"{raw.where}, line {raw.lines[row]}: {what}; correct the line or remove it.")
