"""Which rows of a table are test and which validation: as the table says, or as a named split divides it.

A table may also name a fold of each row. One of them may be the test part; the next one is then validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed
from datasets.tables.column_names import is_flip_format
from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.measurements import MISSING
from datasets.tables.split_strategies import Landscape, TableSplit, divide, validation_part
from datasets.tables.table import ALL_FOLDS, MOST_FOLDS, Table

_VALIDATION = {"": False, "false": False, "true": True, "0": False, "1": True, "0.0": False, "1.0": True}
_FEW_VALIDATION = 50
_LONGEST_NAME = 30  # of a fold
_IN_ORDER = re.compile(r"-?[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}.*")  # whole numbers by size, dates by their letters
_OWN = "the file's own"  # division


def given_parts(columns: Columns, findings: Findings) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Return which rows are test and which validation, None where the file does not say."""
    if "set" not in columns.cells:
        return None, None
    parts = [cell.strip().lower() for cell in columns.cells["set"]]
    marks = [cell.strip().lower() for cell in columns.cells.get("validation", [])]
    known = ("train", "test", "validation", "valid", "val", *(("",) if _may_leave_out(columns) else ()))
    odd = [row for row, part in enumerate(parts) if part not in known]
    if odd:
        cell = columns.cells["set"][odd[0]]
        findings.add(
            "refused",
            f"the set {cell[:60]!r} is neither 'train' nor 'test'",
            odd,
            remedy="correct the line or remove it",
        )
    odd = [row for row, mark in enumerate(marks) if mark not in _VALIDATION]
    if odd:
        cell = columns.cells["validation"][odd[0]]
        findings.add("refused", f"the validation value {cell[:60]!r} is neither 'True', 'False' nor empty", odd)
    test = np.array([part == "test" for part in parts], dtype=np.bool_)
    in_set = np.array([part.startswith("val") for part in parts], dtype=np.bool_)
    if not marks:
        return test, in_set if in_set.any() else None
    marked = np.array([_VALIDATION.get(mark, False) for mark in marks], dtype=np.bool_)
    validation = (marked | in_set) & ~test
    return test, validation if validation.any() else None


def in_split(columns: Columns, findings: Findings) -> NDArray[np.bool_]:
    """Return which rows (N,) belong to the split; FLIP's files hold all variants of an assay, some without a set."""
    if not _may_leave_out(columns):
        return np.ones(len(columns), dtype=np.bool_)
    is_in = np.array([bool(cell.strip()) for cell in columns.cells["set"]], dtype=np.bool_)
    if not is_in.all():
        without = np.flatnonzero(~is_in).tolist()
        findings.add("note", "the set is empty: the row is no part of the split, as in FLIP's files", without)
    return is_in


def _may_leave_out(columns: Columns) -> bool:
    """Whether a row without a set is no mistake: the file is laid out as FLIP's."""
    return is_flip_format(columns) and any(cell.strip() for cell in columns.cells["set"])


def given_groups(
    columns: Columns, table: Table, sequences: Packed, rows: NDArray[np.int64], findings: Findings
) -> list[str] | None:
    """Return the group's name of each of the rows, whose sequences (n,) are given; None where no column names any."""
    if table.group_column is None:
        return None
    cells = columns.cells[table.group_column]
    group = [cells[row].strip() for row in rows.tolist()]
    blank = [row for row, name in zip(rows.tolist(), group, strict=True) if name.lower() in MISSING]
    if blank:
        findings.add("refused", f"the group ({table.group_column!r}) is empty", blank, remedy="name it")
    _refuse_twice("group", table.group_column, group, sequences, rows, findings)
    return group


def given_folds(
    columns: Columns, table: Table, sequences: Packed, rows: NDArray[np.int64], findings: Findings
) -> list[str] | None:
    """Return the name of the fold of each of the rows, whose sequences (n,) are given; None where no column names any.

    Rounds are folds whose sequences may be measured again in a later one: they belong to the first.

    Raises:
        UserError: The column names fewer than two folds, too many, or not the one that is test.
    """
    name = table.fold_column or table.round_column
    if name is None:
        return None
    what = "round" if table.round_column else "fold"
    cells = [columns.cells[name][row].strip() for row in rows.tolist()]
    # As a program writes whole numbers in a column where some were missing.
    folds = [cell.removesuffix(".0") if cell.removeprefix("-")[:-2].isdecimal() else cell for cell in cells]
    blank = [row for row, fold in zip(rows.tolist(), folds, strict=True) if fold.lower() in MISSING]
    if blank:
        findings.add("refused", f"the {what} ({name!r}) is empty", blank, remedy="name it, or remove the line")
        return folds
    odd = [row for row, fold in zip(rows.tolist(), folds, strict=True) if not _is_fold(fold)]
    if odd:
        text = f"the {what} {columns.cells[name][odd[0]][:60]!r} ({name!r}) is no whole number and no short name"
        remedy = f"write a number, or up to {_LONGEST_NAME} letters, but not {ALL_FOLDS!r}"
        findings.add("refused", text, odd, remedy=remedy)
        return folds
    names = in_order(folds)
    if not 2 <= len(names) <= MOST_FOLDS:
        until = "leave --round-column out until a second one is measured, or " * (what == "round" and len(names) == 1)
        raise UserError(
            f"{columns.where} names {len(names):,} {what}{'s' * (len(names) > 1)} in {name!r} (--{what}-column), "
            f"expected 2 to {MOST_FOLDS:,}: {until}name another column."
        )
    if table.test_fold is not None and table.test_fold not in names:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UserError(
            f"{columns.where} has no fold {table.test_fold[:60]!r} in {name!r} (--test-fold); its folds are {shown}."
        )
    if table.round_column:
        if not all(map(_IN_ORDER.fullmatch, names)):
            shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            findings.add("note", f"the rounds ({name!r}) are taken in this order: {shown}; number them if it is wrong")
        return _first_rounds(sequences, folds, names)
    _refuse_twice("fold", name, folds, sequences, rows, findings)
    return folds


def _refuse_twice(
    what: str, column: str, names: Sequence[str], sequences: Packed, rows: NDArray[np.int64], findings: Findings
) -> None:
    """Refuse the rows whose sequences stand under another of the names (n,) too."""
    known: dict[str, str] = {}
    of_rows = zip(rows.tolist(), sequences, names, strict=True)
    twice = [row for row, sequence, name in of_rows if known.setdefault(sequence, name) != name]
    if twice:
        text = f"the sequence stands in another {what} ({column!r}) too"
        findings.add("refused", text, twice, remedy=f"put all its lines into one {what}")


def _first_rounds(sequences: Packed, rounds: Sequence[str], names: Sequence[str]) -> list[str]:
    """The round of each row (n,): the first in which its sequence was measured."""
    number = {name: place for place, name in enumerate(names)}
    first: dict[str, int] = {}
    for sequence, name in zip(sequences, rounds, strict=True):
        first[sequence] = min(first.get(sequence, number[name]), number[name])
    return [names[first[sequence]] for sequence in sequences]


def _is_fold(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and name.isprintable() and '"' not in name and name.lower() != ALL_FOLDS


def in_order(folds: Iterable[str]) -> tuple[str, ...]:
    """Return the different names of folds: whole numbers by size, then the others by their letters."""
    names = set(folds)
    numbers = {name for name in names if name.removeprefix("-").isdecimal()}
    return (*sorted(numbers, key=lambda name: (int(name), name)), *sorted(names - numbers))


def parts_of_fold(folds: Sequence[str], test_fold: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Return which rows (n,) are test, those of one fold, and which validation: the fold that comes after it.

    Of two folds the other one is train, and validation is left open.
    """
    names, fold = in_order(folds), np.array(folds, dtype=object)
    after = names[(names.index(test_fold) + 1) % len(names)] if test_fold in names else test_fold
    return np.equal(fold, test_fold), None if len(names) < 3 else np.equal(fold, after)


def check_overlap(
    sequences: Packed, division: TableSplit, rows: NDArray[np.int64], findings: Findings, *, is_drawn: bool
) -> None:
    """Find sequences that stand in two parts; `is_drawn`: a strategy made these, and not the file."""
    test, validation = division.test, division.validation
    parts = [list(sequences.take(np.flatnonzero(part))) for part in (test, ~test)]
    train = set(parts[1])
    leaked = [row for row, sequence in zip(np.flatnonzero(test).tolist(), parts[0], strict=True) if sequence in train]
    if leaked:
        findings.add(
            "refused",
            "the sequence stands in both train and test",
            rows[leaked].tolist(),
            remedy="use --replicates mean, or another split" if is_drawn else "remove it from one of the two",
        )
    judged = set(sequences.take(np.flatnonzero(validation)))
    trained = np.flatnonzero(~test & ~validation)
    pairs = zip(trained.tolist(), sequences.take(trained), strict=True)
    leaked = [row for row, sequence in pairs if sequence in judged]
    if leaked:
        findings.add("warning", "the sequence stands in both train and validation", rows[leaked].tolist())


def find_division(
    landscape: Landscape,
    table: Table,
    test: NDArray[np.bool_] | None,
    validation: NDArray[np.bool_] | None,
    findings: Findings,
) -> TableSplit | None:
    """Return the table's own parts, `test` and `validation`, completed, or those of its split; None without either."""
    if test is None:
        if table.split is None:
            return None
        try:
            return divide(
                landscape,
                table.split,
                max_train_mutations=table.max_train_mutations,
                seed=table.split_seed,
                group_rule=table.group_rule,
            )
        except UserError as error:
            findings.add("refused", str(error).rstrip("."))
            return None
    if validation is None:
        if (~test).sum() < 3:
            findings.add("refused", f"the train part has {int((~test).sum())} rows, expected three or more")
            return None
        findings.add("note", "no row is marked as validation: a tenth of train is drawn for it")
        how = f"{_how(table)}, validation at random"
        return TableSplit(test=test, validation=validation_part(landscape, test, table.split_seed), how=how)
    return TableSplit(test=test, validation=validation, how=_how(table))


def _how(table: Table) -> str:
    """How the parts were found that no strategy made."""
    if table.test_fold is None:
        return _OWN
    return f"test is fold {table.test_fold} of {table.fold_column!r}"


def check_division(
    division: TableSplit, target: NDArray[np.float64], findings: Findings, *, has_folds: bool = False
) -> None:
    """Find parts that are empty, too small to judge by (where no folds are named for that), or of one target."""
    train = ~division.test & ~division.validation
    remedy = "mark some in the column 'set'" if division.how.startswith(_OWN) else "choose another split"
    for name, part in (("train", train), ("validation", division.validation), ("test", division.test)):
        n = int(part.sum())
        if not n:
            findings.add("refused", f"no row is left for {name} ({division.how})", remedy=remedy)
        elif name != "test" and n > 1 and np.ptp(target[part]) == 0:
            findings.add("refused", f"all targets of the {name} part are {target[part][0]:g}", remedy=remedy)
    n = int(division.validation.sum())
    if 0 < n < _FEW_VALIDATION and not has_folds:
        findings.add(
            "note",
            f"the validation part has {n} sequences, which are few to choose a model by: a search cross-validates "
            "instead, unless it is told validation=holdout",
        )
