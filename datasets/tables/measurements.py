"""Targets as numbers, and several measurements of one sequence as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.table import Table

_ROWS = 4096  # hashed at a time: they stay in the processor's cache
_WORDS = ("", "-", "--", "?", "na", "n/a", "n.a.", "nan", "nd", "n.d.", "n.d", "none", "null", "missing")
_OF_EXCEL = ("#n/a", "#na", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!")
MISSING = frozenset((*_WORDS, *_OF_EXCEL))
"""What stands in a cell, in lower case, where nothing was measured."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Noise:
    """What replicates say about the noise of a table of n variants.

    n_repeated: variants measured more than once. sd: standard deviation of one measurement around its variant's
    mean, pooled: sqrt(sum of squared deviations / (measurements - variants)). reliability: the share of the variance
    of the variants' means that is not noise, 1 - mean(sd^2 / k_i) / var(means), where variant i was measured k_i
    times; at least 0. reachable_spearman: its square root, what a model that knew the true values would have
    (exactly so for Pearson's correlation and noise that is independent and equally large everywhere; about so for
    ranks).
    """

    n_repeated: int
    sd: float
    reliability: float

    @property
    def reachable_spearman(self) -> float:
        """The square root of the reliability."""
        return float(np.sqrt(self.reliability))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Merged:
    """Of N rows the n variants.

    first: (n,) int64, each variant's first row, ascending. entry: (N,) int64, the variant of each row. target: (n,)
    float64, the means. count: (n,) int64.
    """

    first: NDArray[np.int64]
    entry: NDArray[np.int64]
    target: NDArray[np.float64]
    count: NDArray[np.int64]
    noise: Noise | None


def measured(columns: Columns, table: Table, findings: Findings) -> NDArray[np.float64]:
    """Return what was measured (N, r), in one column or in r of replicates; NaN where a cell is refused or missing."""
    if not table.replicate_columns:
        assert table.target_column is not None
        return numbers(columns.cells[table.target_column], findings, table.target_column)[:, None]
    names = table.replicate_columns
    values = [numbers(columns.cells[name], findings, name, is_replicate=True) for name in names]
    together = np.stack(values, axis=1)
    is_known = np.isfinite(together)
    shown = ", ".join(map(repr, names))
    findings.add("note", f"the target is the mean of the replicates {shown}")
    if (some := np.flatnonzero(~is_known.all(axis=1) & is_known.any(axis=1))).size:
        findings.add("note", "a replicate has no measurement: the mean is that of the others", some.tolist())
    if (none := np.flatnonzero(~is_known.any(axis=1))).size:
        findings.add("note", "no replicate has a measurement: rows without one are set aside", none.tolist())
    return together


def errors(columns: Columns, table: Table, rows: NDArray[np.int64], findings: Findings) -> NDArray[np.float64] | None:
    """Return the standard errors (n,) of the targets of some rows (n,); None without a column of them.

    A row without one has the median of the others; 0, or less, is refused: such a row would count alone.
    """
    if table.error_column is None or not len(rows):
        return None
    every = numbers(columns.cells[table.error_column], findings, table.error_column, is_error=True)
    values = every[rows]
    if (bad := rows[values <= 0]).size:
        cell = columns.cells[table.error_column][int(bad[0])]
        text = f"the standard error {cell[:60]!r} is not above 0"
        findings.add("refused", text, bad.tolist(), remedy="leave the cell empty where it is not known")
    if not np.isfinite(values).any():
        raise UserError(f"{columns.where} has no standard error in {table.error_column!r}: leave --error-column out.")
    if (missing := rows[np.isnan(values)]).size:
        findings.add("note", "a row without a standard error has the median of the others", missing.tolist())
    return np.where(np.isnan(values), np.nanmedian(values), values)


def merged_errors(error: NDArray[np.float64], merged: Merged) -> NDArray[np.float64]:
    """Return the standard errors (n,) of the means of rows with the standard errors (N,), independent of each other."""
    n = len(merged.first)
    squares = np.bincount(merged.entry, weights=error**2, minlength=n)
    found: NDArray[np.float64] = np.sqrt(squares) / np.bincount(merged.entry, minlength=n)
    return found


def numbers(
    cells: Packed, findings: Findings, column: str, *, is_replicate: bool = False, is_error: bool = False
) -> NDArray[np.float64]:
    """Return the cells as numbers (N,), NaN where one is refused, or nothing was measured.

    `is_replicate`: where nothing was measured, other columns may have a measurement. `is_error`: they are standard
    errors of targets, which may all be the same.
    """
    parsed = _all_at_once(cells)
    values, is_text = _one_by_one(cells) if parsed is None else (parsed, np.zeros(len(cells), dtype=np.bool_))
    with np.errstate(over="ignore"):
        is_infinite = ~np.isfinite(values.astype(np.float32))
    is_missing = np.zeros_like(is_text)
    for row in np.flatnonzero(is_infinite).tolist():
        is_missing[row] = cells[row].strip().lower() in MISSING
    is_text &= ~is_missing
    if (at := np.flatnonzero(is_missing)).size and not is_replicate and not is_error:
        cell = cells[int(at[0])].strip()
        named = f"has no number but {cell!r}" if cell else "is empty"
        findings.add("note", f"the target {named}: rows without a measurement are set aside", at.tolist())
    what = "standard error" if is_error else "target"
    option = "--error-column" if is_error else "--replicate-column" if is_replicate else "--target-column"
    other_column = f"name another column than {column!r} with {option}"
    line = other_column if is_text.sum() * 2 > len(cells) else "correct the line or remove it"
    for rows, text, remedy in (
        (is_text, f"the {what} {{!r}} is not a number", line),
        (
            is_infinite & ~is_text & ~is_missing,
            f"the {what} {{!r}} is not a finite number in single precision",
            "correct the line or remove it",
        ),
    ):
        at = np.flatnonzero(rows)
        if len(at):
            cell = cells[int(at[0])]
            hint = ", decimals need a point" if "," in cell and "number" in text else ""
            findings.add("refused", text.format(cell[:60]) + hint, at.tolist(), remedy=remedy)
    values[is_infinite] = np.nan
    good = values[~is_infinite]
    if len(good) > 1 and good.min() == good.max() and not is_error:
        findings.add(
            "refused",
            f"every target is {good[0]:g}, so there is nothing to rank",
            remedy=other_column,
        )
    return values


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


def _one_by_one(cells: Packed) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the cells as numbers (N,), NaN where one is text, and which are text (N,)."""
    values = np.full(len(cells), np.nan)
    is_text = np.zeros(len(cells), dtype=np.bool_)
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
        except ValueError:
            is_text[row] = True
        if "_" in cell:  # Python reads 1_000 as a number; tables do not mean one
            values[row], is_text[row] = np.nan, True
    return values, is_text


def merge(keys: NDArray[np.uint8] | Sequence[bytes], target: NDArray[np.float64]) -> Merged:
    """Return one entry for each distinct key, of which there are N (or rows (N, w)), in the order of the first ones.

    `target`: (N,), or (N, r) of r replicates, NaN where one is missing, but not all of a row.
    """
    target = target if target.ndim == 2 else target[:, None]
    entry, first = _entries(keys)
    is_known = np.isfinite(target)
    at, values = np.repeat(entry, is_known.sum(axis=1)), target[is_known]
    n = len(first)
    if n == len(values):
        return Merged(first=first, entry=entry, target=values, count=np.ones(n, dtype=np.int64), noise=None)
    count = np.bincount(at, minlength=n)
    means = np.bincount(at, weights=values, minlength=n) / count
    means[at[count[at] == 1]] = values[count[at] == 1]  # exactly
    squares = float(((values - means[at]) ** 2).sum())
    variance = squares / (len(values) - n)
    total = float(means.var(ddof=1)) if n > 1 else 0.0
    reliability = max(0.0, 1.0 - variance * float((1 / count).mean()) / total) if total > 0 else 0.0
    noise = Noise(n_repeated=int((count > 1).sum()), sd=float(np.sqrt(variance)), reliability=reliability)
    return Merged(first=first, entry=entry, target=means, count=count, noise=noise)


def _entries(keys: NDArray[np.uint8] | Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the entry of each row (N,), and each entry's first row (n,), ascending."""
    rows = np.arange(len(keys))
    if isinstance(keys, np.ndarray):
        if _are_distinct(keys):
            return rows, rows
        keys = list_of_rows(keys)
    known: dict[bytes, int] = {key: entry for entry, key in enumerate(dict.fromkeys(keys))}
    entry = np.fromiter(map(known.__getitem__, keys), dtype=np.int64, count=len(keys))
    first = np.full(len(known), -1, dtype=np.int64)
    first[entry[::-1]] = rows[::-1]
    return entry, first


def list_of_rows(codes: NDArray[np.uint8]) -> list[bytes]:
    """Return the rows (N, w) as bytes."""
    joined, width = codes.tobytes(), codes.shape[1]
    return [joined[i * width : (i + 1) * width] for i in range(len(codes))]


def _are_distinct(codes: NDArray[np.uint8]) -> bool:
    """Return whether no two rows (N, w) are equal; False too in the rare case that their hashes do not tell."""
    hashes = np.empty(len(codes), dtype=np.uint64)
    for start in range(0, len(codes), _ROWS):
        some = codes[start : start + _ROWS]
        words = np.zeros((len(some), codes.shape[1] // 8 + 1), dtype="<u8")
        words.view(np.uint8)[:, : codes.shape[1]] = some
        # The finalizer of SplitMix64 (Steele et al. 2014) on each word, told apart by its place, and their sum.
        words += np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            words ^= words >> np.uint64(shift)
            words *= np.uint64(factor)
        words ^= words >> np.uint64(31)
        words.sum(axis=1, out=hashes[start : start + _ROWS])
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any()
