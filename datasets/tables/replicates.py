"""Several measurements of one sequence as one, and what they say of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasets.tables.findings import Findings
from datasets.tables.table import Table

_ROWS = 4096  # hashed at a time: they stay in the processor's cache


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
    float64, the means. sequence: where every measurement is kept, (N,) int64, the number of what each row measures;
    None otherwise.
    """

    first: NDArray[np.int64]
    entry: NDArray[np.int64]
    target: NDArray[np.float64]
    noise: Noise | None
    sequence: NDArray[np.int64] | None = None


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
        return Merged(first=first, entry=entry, target=values, noise=None)
    count = np.bincount(at, minlength=n)
    means = np.bincount(at, weights=values, minlength=n) / count
    means[at[count[at] == 1]] = values[count[at] == 1]  # exactly
    squares = float(((values - means[at]) ** 2).sum())
    variance = squares / (len(values) - n)
    total = float(means.var(ddof=1)) if n > 1 else 0.0
    reliability = max(0.0, 1.0 - variance * float((1 / count).mean()) / total) if total > 0 else 0.0
    noise = Noise(n_repeated=int((count > 1).sum()), sd=float(np.sqrt(variance)), reliability=reliability)
    return Merged(first=first, entry=entry, target=means, noise=noise)


def merge_rows(
    keys: NDArray[np.uint8] | Sequence[bytes],
    target: NDArray[np.float64],
    rows: NDArray[np.int64],
    table: Table,
    findings: Findings,
) -> Merged:
    """Merge some rows (N,) of a table as it says, by their keys; where the file has its parts, within a part."""
    merged = merge(keys, target)
    if merged.noise is None:
        return merged
    repeated = np.ones(len(rows), dtype=np.bool_)
    repeated[merged.first] = False
    again = rows[repeated].tolist()
    if not again:
        pass  # replicates stand in columns alone
    elif table.replicates == "refuse":
        findings.add("refused", "the sequence was measured before", again, remedy="remove it, or use --replicates mean")
    elif table.replicates == "keep":
        findings.add("note", "the sequence was measured before; every measurement is kept", again)
        every, means = np.arange(len(rows)), np.nanmean(target, axis=1)
        return replace(merged, first=every, entry=every, target=means, sequence=merged.entry)
    else:
        findings.add("note", "the sequence was measured before; the mean of its measurements is taken", again)
    return merged


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


def merged_errors(error: NDArray[np.float64], merged: Merged) -> NDArray[np.float64]:
    """Return the standard errors (n,) of the means of rows with the standard errors (N,), independent of each other."""
    n = len(merged.first)
    squares = np.bincount(merged.entry, weights=error**2, minlength=n)
    found: NDArray[np.float64] = np.sqrt(squares) / np.bincount(merged.entry, minlength=n)
    return found
