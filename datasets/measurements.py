"""Targets as numbers, and several measurements of one sequence as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.findings import Findings


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


def numbers(cells: Sequence[str], findings: Findings, column: str) -> NDArray[np.float64]:
    """Return the cells as numbers (N,), NaN where one is refused."""
    try:
        values = np.array(list(map(float, cells)), dtype=np.float64)
        is_text = np.zeros(len(cells), dtype=np.bool_)
    except ValueError:
        values, is_text = _one_by_one(cells)
    odd = np.array(["_" in cell for cell in cells], dtype=np.bool_) if "_" in "".join(cells) else is_text
    values[odd] = np.nan  # Python reads 1_000 as a number; tables do not mean one
    with np.errstate(over="ignore"):
        is_infinite = ~np.isfinite(values.astype(np.float32))
    is_blank = is_infinite & np.array([not cell.strip() for cell in cells], dtype=np.bool_)
    is_text = (is_text | odd) & ~is_blank
    for rows, text, remedy in (
        (is_blank, "the target is empty", "remove the line: there is nothing to learn from it"),
        (is_text, "the target {!r} is not a number", "correct the line or remove it"),
        (
            is_infinite & ~is_text & ~is_blank,
            "the target {!r} is not a finite number in single precision",
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
    if len(good) > 1 and good.min() == good.max():
        findings.add(
            "refused",
            f"every target is {good[0]:g}, so there is nothing to rank",
            remedy=f"name another column than {column!r} with --target-column",
        )
    return values


def _one_by_one(cells: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.full(len(cells), np.nan)
    is_text = np.zeros(len(cells), dtype=np.bool_)
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
        except ValueError:
            is_text[row] = True
    return values, is_text


def merge(keys: Sequence[Hashable], target: NDArray[np.float64]) -> Merged:
    """Return one entry for each distinct key, in the order of the first rows."""
    known: dict[Hashable, int] = {}
    entry = np.fromiter((known.setdefault(key, len(known)) for key in keys), dtype=np.int64, count=len(keys))
    n = len(known)
    count = np.bincount(entry, minlength=n)
    first = np.full(n, -1, dtype=np.int64)
    first[entry[::-1]] = np.arange(len(keys))[::-1]
    if n == len(keys):
        return Merged(first=first, target=target, count=count, noise=None)
    means = np.bincount(entry, weights=target, minlength=n) / count
    means[count == 1] = target[first[count == 1]]  # exactly
    squares = float(((target - means[entry]) ** 2).sum())
    variance = squares / (len(keys) - n)
    total = float(means.var(ddof=1)) if n > 1 else 0.0
    reliability = max(0.0, 1.0 - variance * float((1 / count).mean()) / total) if total > 0 else 0.0
    noise = Noise(n_repeated=int((count > 1).sum()), sd=float(np.sqrt(variance)), reliability=reliability)
    return Merged(first=first, target=means, count=count, noise=noise)
