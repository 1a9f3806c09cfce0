"""Targets, and their standard errors, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.written_numbers import perhaps_thousands, plain_numbers, written_numbers
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.table import Censored, Table

_SIGNS = ("", "-", "--", "\u2013", "\u2014", "?")  # a dash of Excel too
_WORDS = ("na", "n/a", "n.a.", "n. a.", "nan", "nd", "n.d.", "n.d", "n. d.", "none", "null", "missing")
_IN_FULL = ("not determined", "not measured")
_OF_EXCEL = ("#n/a", "#na", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!")
MISSING = frozenset((*_SIGNS, *_WORDS, *_IN_FULL, *_OF_EXCEL))
"""What stands in a cell, in lower case, where nothing was measured."""
_LETTERS = frozenset(filter(str.isalpha, MISSING))
_PEPTIDE = 8  # residues: among sequences so short NA and ND are peptides

Kind = Literal["target", "replicate", "standard error"]
"""What a column holds: targets, one of several measurements of each, or the standard errors of targets."""


def missing_sequences(cells: Sequence[str], lengths: NDArray[np.int64], usual: int | None = None) -> list[int]:
    """Return the rows of a column of sequences (N), of so many letters (N,), that hold a word for none, such as NA.

    Letters of words may all be residues: these are peptides where the other sequences, or one of the `usual` length,
    are hardly longer.
    """
    short = np.flatnonzero((lengths > 0) & (lengths <= max(map(len, _LETTERS))))
    rows = [row for row in short.tolist() if cells[row].strip().lower() in _LETTERS]
    if rows and usual is None:
        others = np.delete(lengths, rows)
        usual = int(np.median(others[others > 0])) if others.any() else 0
    return rows if usual is not None and usual > _PEPTIDE else []


def measured(columns: Columns, table: Table, findings: Findings) -> tuple[NDArray[np.float64], Censored | None]:
    """Return what was measured (N, r), in one column or in r of replicates; NaN where a cell is refused or missing.

    The second value is that of `numbers`.
    """
    if not table.replicate_columns:
        assert table.target_column is not None
        cells = columns.cells[table.target_column]
        values, censored = numbers(cells, findings, table.target_column, table.censored)
        return values[:, None], censored
    names = table.replicate_columns
    found = [numbers(columns.cells[name], findings, name, table.censored, kind="replicate") for name in names]
    together = np.stack([values for values, _ in found], axis=1)
    is_known = np.isfinite(together)
    shown = ", ".join(map(repr, names))
    findings.add("note", f"the target is the mean of the replicates {shown}")
    in_percent = {name: any(b"%" in piece for piece in columns.cells[name].pieces()) for name in names}
    if len({*in_percent.values()}) == 2:
        one, other = (next(name for name in names if in_percent[name] is is_so) for is_so in (True, False))
        findings.add(
            "warning",
            f"the replicate {one!r} is written in percent and {other!r} is not: 12 % counts as 0.12 in their mean",
            remedy="write both alike if they are of one unit",
        )
    if (some := np.flatnonzero(~is_known.all(axis=1) & is_known.any(axis=1))).size:
        findings.add("note", "a replicate has no measurement: the mean is that of the others", some.tolist())
    if (none := np.flatnonzero(~is_known.any(axis=1))).size:
        findings.add("note", "no replicate has a measurement: rows without one are set aside", none.tolist())
    _refuse_one_value(
        np.nanmean(together[is_known.any(axis=1)], axis=1), findings, "name others with --replicate-column"
    )
    return together, next((censored for _, censored in found if censored is not None), None)


def errors(columns: Columns, table: Table, rows: NDArray[np.int64], findings: Findings) -> NDArray[np.float64] | None:
    """Return the standard errors (n,) of the targets of some rows (n,); None without a column of them.

    NaN where a row has none (see `without_gaps`); 0, or less, is refused: such a row would count alone.
    """
    if table.error_column is None or not len(rows):
        return None
    every, _ = numbers(columns.cells[table.error_column], findings, table.error_column, kind="standard error")
    values = every[rows]
    # In single precision, as they are kept.
    if (bad := rows[values.astype(np.float32) <= 0]).size:
        cell = columns.cells[table.error_column][int(bad[0])]
        text = f"the standard error {cell[:60]!r} is not above 0"
        text += " in single precision" if every[bad[0]] > 0 else ""
        findings.add("refused", text, bad.tolist(), remedy="leave the cell empty where it is not known")
    if not np.isfinite(values).any():
        raise UserError(f"{columns.where} has no standard error in {table.error_column!r}: leave --error-column out.")
    if (missing := rows[np.isnan(values)]).size:
        findings.add("note", "a row without a standard error has the median of the others", missing.tolist())
    return values


def without_gaps(error: NDArray[np.float64], test: NDArray[np.bool_] | None, where: str) -> NDArray[np.float64]:
    """Return standard errors (n,) with the median of those that are not `test` (n,) in place of NaN."""
    usual = error if test is None else error[~test]
    if not np.isnan(error).any():
        return error
    if np.isnan(usual).all():
        raise UserError(f"{where} has standard errors of test rows alone: leave --error-column out.")
    return np.where(np.isnan(error), np.nanmedian(usual), error)


def numbers(
    cells: Packed, findings: Findings, column: str, censored: Censored | None = None, *, kind: Kind = "target"
) -> tuple[NDArray[np.float64], Censored | None]:
    """Return the cells as numbers (N,), NaN where one is refused, or nothing was measured.

    `censored` is what becomes of limits, None the usual, and is returned if there are any and it is not the usual.
    """
    parsed = _all_at_once(cells)
    if parsed is not None:
        values, is_text, has_limits = parsed, np.zeros(len(cells), dtype=np.bool_), False
    else:
        values, is_text, has_limits = _one_by_one(cells, findings, censored or "limit", kind)
    with np.errstate(over="ignore"):
        is_infinite = np.isinf(values.astype(np.float32))
    what = "standard error" if kind == "standard error" else "target"
    option = {"target": "--target-column", "replicate": "--replicate-column"}.get(kind, "--error-column")
    other_column = f"name another column than {column!r} with {option}"
    own = "correct it, or leave it empty if nothing was measured"
    line = other_column if is_text.sum() * 2 > len(cells) else own
    for rows, text, remedy in (
        (is_text, f"the {what} {{!r}} is not a number", line),
        (
            is_infinite & ~is_text,
            f"the {what} {{!r}} is not a finite number in single precision",
            "correct the line or remove it",
        ),
    ):
        at = np.flatnonzero(rows)
        if len(at):
            cell = cells[int(at[0])]
            hint = ", decimals need a point" if "," in cell and "number" in text else ""
            if rows is is_text and written_numbers([cell]).is_limit[0]:
                hint = " (--censored drop sets limits aside)"
            findings.add("refused", text.format(cell[:60]) + hint, at.tolist(), remedy=remedy)
    values[is_infinite] = np.nan
    if kind != "standard error" and (row := perhaps_thousands(cells, MISSING)) is not None:
        value = float(values[row])
        findings.add(
            "note",
            f"the {what} {cells[row].strip()!r} is read as {value!r}, not as {value * 1000:.0f}: if its point stands "
            "between thousands, remove such points",
            [row],
        )
    if kind == "target":
        _refuse_one_value(values[~np.isnan(values)], findings, other_column)
    return values, censored if has_limits and censored != "limit" else None


def _refuse_one_value(targets: NDArray[np.float64], findings: Findings, remedy: str) -> None:
    if len(targets) > 1 and targets.min() == targets.max():
        findings.add("refused", f"every target is {targets[0]:g}, so there is nothing to rank", remedy=remedy)


def _all_at_once(cells: Packed) -> NDArray[np.float64] | None:
    """Return the cells as numbers (N,), None where one of them is not finite or is written in an unusual way."""
    import pyarrow as pa  # type: ignore[import-untyped]  # here because it is heavy

    ends = np.concatenate((np.zeros(1, dtype=np.int64), cells.lengths.cumsum()))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(cells.codes())]
    try:
        numbers = pa.Array.from_buffers(pa.large_string(), len(cells), buffers).cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values: NDArray[np.float64] = numbers.to_numpy(zero_copy_only=False, writable=True)
    return values if np.isfinite(values).all() else None


def _one_by_one(
    cells: Packed, findings: Findings, censored: Censored, kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.bool_], bool]:
    """Return the cells as numbers (N,), NaN where there is none, which are text (N,), and whether any is a limit.

    What is read in another way than a program would read it, or set aside, is noted.
    """
    everything = list(cells)
    values = plain_numbers(everything)
    is_missing = np.zeros(len(cells), dtype=np.bool_)
    for row in np.flatnonzero(np.isnan(values)).tolist():
        is_missing[row] = everything[row].strip().lower() in MISSING
    rows = np.flatnonzero(~is_missing)
    texts = [everything[row] for row in rows.tolist()]
    written = written_numbers(texts)
    values[rows] = written.values
    is_text = np.isnan(values) & ~is_missing
    is_limit = np.zeros_like(is_text)
    is_limit[rows] = written.is_limit
    if censored == "drop":
        is_text &= ~is_limit  # `<LOD` is a limit, too, though of no number
    limits = np.flatnonzero(is_limit & ~is_text).tolist()
    what = "standard error" if kind == "standard error" else "target"
    if (at := np.flatnonzero(is_missing)).size and kind == "target":  # others are noted with what follows from it
        cell = cells[int(at[0])].strip()
        named = f"has no number but {cell!r}" if cell else "is empty"
        findings.add("note", f"the target {named}: rows without a measurement are set aside", at.tolist())
    if written.doubt is not None:
        row, value, other = written.doubt
        findings.add(
            "refused",
            f"the {what} {texts[row][:60]!r} can be read as {value!r} and as {other!r}, and no {what} tells which",
            [int(rows[row])],
            remedy="write the targets with a decimal point and without marks between thousands",
        )
    elif (at := np.flatnonzero(written.is_unusual & ~written.is_limit & ~np.isnan(written.values))).size:
        text, value = texts[at[0]], float(written.values[at[0]])
        findings.add("note", f"the {what} {text[:60]!r} is read as {value!r}", rows[at].tolist())
    if limits:
        _limits(
            f"the {what} {cells[limits[0]].strip()[:60]!r}", float(values[limits[0]]), limits, censored, findings, kind
        )
        if censored == "drop":
            values[limits] = np.nan
    return values, is_text, bool(limits)


def _limits(what: str, value: float, rows: list[int], censored: Censored, findings: Findings, kind: Kind) -> None:
    aside = "cells" if kind == "replicate" else "rows"  # the others of a row may be measurements
    about = f"{what} is a limit and not a measurement"
    if censored == "refuse":
        findings.add("refused", about, rows, remedy="remove the line, or use --censored limit or drop")
    elif censored == "drop":
        findings.add("note", f"{about}: such {aside} are set aside", rows)
    else:
        remedy = "" if kind == "standard error" else f" (--censored drop sets such {aside} aside)"
        findings.add("note", f"{about}: {value!r} is taken for it{remedy}", rows)
