"""Which rows of a table are test and which validation: as the table says, or as a named split divides it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.split_strategies import Landscape, TableSplit, divide, validation_part
from datasets.tables.table import Table

_VALIDATION = {"": False, "false": False, "true": True, "0": False, "1": True}
_FEW_VALIDATION = 50


def given_parts(columns: Columns, findings: Findings) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Return which rows are test and which validation, None where the file does not say."""
    if "set" not in columns.cells:
        return None, None
    parts = [cell.strip().lower() for cell in columns.cells["set"]]
    marks = [cell.strip().lower() for cell in columns.cells.get("validation", [])]
    odd = [row for row, part in enumerate(parts) if part not in ("train", "test", "validation", "valid", "val")]
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


def check_overlap(
    sequences: Packed,
    test: NDArray[np.bool_] | None,
    validation: NDArray[np.bool_] | None,
    rows: NDArray[np.int64],
    findings: Findings,
) -> None:
    """Find sequences that stand in two parts."""
    if test is None:
        return
    parts = [list(sequences.take(np.flatnonzero(part))) for part in (test, ~test)]
    train = set(parts[1])
    leaked = [row for row, sequence in zip(np.flatnonzero(test).tolist(), parts[0], strict=True) if sequence in train]
    if leaked:
        findings.add(
            "refused",
            "the sequence stands in both train and test",
            rows[leaked].tolist(),
            remedy="remove it from one of the two",
        )
    if validation is None:
        return
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
        return TableSplit(
            test=test, validation=validation_part(test, table.split_seed), how="the file's own, validation at random"
        )
    return TableSplit(test=test, validation=validation, how="the file's own")


def check_division(division: TableSplit, target: NDArray[np.float64], findings: Findings) -> None:
    """Find parts that are empty, too small to judge by, or of one target."""
    train = ~division.test & ~division.validation
    for name, part in (("train", train), ("validation", division.validation), ("test", division.test)):
        n = int(part.sum())
        if not n:
            findings.add("refused", f"no row is left for {name} ({division.how})", remedy="choose another split")
        elif name != "test" and n > 1 and np.ptp(target[part]) == 0:
            findings.add(
                "refused", f"all targets of the {name} part are {target[part][0]:g}", remedy="choose another split"
            )
    n = int(division.validation.sum())
    if 0 < n < _FEW_VALIDATION:
        findings.add(
            "note",
            f"the validation part has {n} sequences, which are few to choose a model by: a search cross-validates "
            "instead, unless it is told validation=holdout",
        )
