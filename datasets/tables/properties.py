"""Several properties of the same variants: which rows any of them has, divided once for all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.measurements import numbers
from datasets.tables.split_strategies import Mask, TableSplit
from datasets.tables.table import Table


def in_any(columns: Columns, table: Table) -> NDArray[np.float64]:
    """Return a number for each row (N,) that any of the properties has, NaN for the others.

    It is the row's place, which tells nothing of what was measured. What is wrong with a cell is for the survey of its
    own property to say.
    """
    found = [numbers(columns.cells[name], Findings(columns=columns), name)[0] for name in table.properties]
    is_known = np.isfinite(np.stack(found)).any(axis=0)
    return np.where(is_known, np.arange(len(columns), dtype=np.float64), np.nan)


def divided_alike(whole: Iterable[str], division: TableSplit, sequences: Iterable[str]) -> tuple[Mask, Mask]:
    """Return which of some sequences (n,) are test and which validation, where all of them are divided already."""
    place = {sequence: row for row, sequence in enumerate(whole)}
    rows = np.array([place[sequence] for sequence in sequences], dtype=np.int64)
    return division.test[rows], division.validation[rows]


def missing_from(own: Findings, whole: Findings) -> None:
    """Add what no search accepts of the rows of all properties, as far as it is not known of those of one."""
    known = {finding.text for finding in own.found}
    own.found += [replace(one) for one in whole.found if one.level == "refused" and one.text not in known]
