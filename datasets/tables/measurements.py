"""Targets as numbers, and several measurements of one sequence as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.common.written_numbers import plain_numbers, written_numbers
from datasets.sequences.packed import Packed
from datasets.tables.findings import Findings
from datasets.tables.table import Censored

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
    """first: (n,) int64, each variant's first row, ascending. target: (n,) float64, the means. count: (n,) int64."""

    first: NDArray[np.int64]
    target: NDArray[np.float64]
    count: NDArray[np.int64]
    noise: Noise | None


def numbers(
    cells: Packed, findings: Findings, column: str, censored: Censored | None = None
) -> tuple[NDArray[np.float64], Censored | None]:
    """Return the cells as numbers (N,), NaN where one is refused, or nothing was measured.

    `censored` is what becomes of limits, None the usual, and is returned if there are any and it is not the usual.
    """
    parsed = _all_at_once(cells)
    if parsed is not None:
        values, is_text, has_limits = parsed, np.zeros(len(cells), dtype=np.bool_), False
    else:
        values, is_text, has_limits = _one_by_one(cells, findings, censored or "limit")
    with np.errstate(over="ignore"):
        is_infinite = np.isinf(values.astype(np.float32))
    other_column = f"name another column than {column!r} with --target-column"
    line = other_column if is_text.sum() * 2 > len(cells) else "correct the line or remove it"
    for rows, text, remedy in (
        (is_text, "the target {!r} is not a number", line),
        (
            is_infinite & ~is_text,
            "the target {!r} is not a finite number in single precision",
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
    good = values[~np.isnan(values)]
    if len(good) > 1 and good.min() == good.max():
        findings.add(
            "refused",
            f"every target is {good[0]:g}, so there is nothing to rank",
            remedy=other_column,
        )
    return values, censored if has_limits and censored != "limit" else None


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
    cells: Packed, findings: Findings, censored: Censored
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
    if (at := np.flatnonzero(is_missing)).size:
        cell = cells[int(at[0])].strip()
        named = f"has no number but {cell!r}" if cell else "is empty"
        findings.add("note", f"the target {named}: rows without a measurement are set aside", at.tolist())
    if written.doubt is not None:
        row, value, other = written.doubt
        findings.add(
            "refused",
            f"the target {texts[row][:60]!r} can be read as {value!r} and as {other!r}, and no target tells which",
            [int(rows[row])],
            remedy="write the targets with a decimal point and without marks between thousands",
        )
    elif (at := np.flatnonzero(written.is_unusual & ~written.is_limit & ~np.isnan(written.values))).size:
        text, value = texts[at[0]], float(written.values[at[0]])
        findings.add("note", f"the target {text[:60]!r} is read as {value!r}", rows[at].tolist())
    if limits:
        _limits(cells[limits[0]], float(values[limits[0]]), limits, censored, findings)
        if censored == "drop":
            values[limits] = np.nan
    return values, is_text, bool(limits)


def _limits(cell: str, value: float, rows: list[int], censored: Censored, findings: Findings) -> None:
    about = f"the target {cell.strip()[:60]!r} is a limit and not a measurement"
    if censored == "refuse":
        findings.add("refused", about, rows, remedy="remove the line, or use --censored limit or drop")
    elif censored == "drop":
        findings.add("note", f"{about}: such rows are set aside", rows)
    else:
        findings.add("note", f"{about}: {value!r} is taken for it (--censored drop sets such rows aside)", rows)


def merge(keys: NDArray[np.uint8] | Sequence[bytes], target: NDArray[np.float64]) -> Merged:
    """Return one entry for each distinct key, of which there are N (or rows (N, w)), in the order of the first ones."""
    if isinstance(keys, np.ndarray):
        if _are_distinct(keys):
            return _unmerged(target)
        keys = list_of_rows(keys)
    known: dict[bytes, int] = {key: entry for entry, key in enumerate(dict.fromkeys(keys))}
    n = len(known)
    if n == len(keys):
        return _unmerged(target)
    entry = np.fromiter(map(known.__getitem__, keys), dtype=np.int64, count=len(keys))
    count = np.bincount(entry, minlength=n)
    first = np.full(n, -1, dtype=np.int64)
    first[entry[::-1]] = np.arange(len(keys))[::-1]
    means = np.bincount(entry, weights=target, minlength=n) / count
    means[count == 1] = target[first[count == 1]]  # exactly
    squares = float(((target - means[entry]) ** 2).sum())
    variance = squares / (len(keys) - n)
    total = float(means.var(ddof=1)) if n > 1 else 0.0
    reliability = max(0.0, 1.0 - variance * float((1 / count).mean()) / total) if total > 0 else 0.0
    noise = Noise(n_repeated=int((count > 1).sum()), sd=float(np.sqrt(variance)), reliability=reliability)
    return Merged(first=first, target=means, count=count, noise=noise)


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


def _unmerged(target: NDArray[np.float64]) -> Merged:
    n = len(target)
    return Merged(first=np.arange(n), target=target, count=np.ones(n, dtype=np.int64), noise=None)
