"""A batch whose members are good and unlike each other: the greedy mode of a determinantal point process.

Chen, Zhang and Zhou 2018, "Fast greedy MAP inference for determinantal point process to improve recommendation
diversity": one candidate after another, each the one that adds most to the logarithm of the determinant of similarities
and qualities together. What a candidate adds is its own quality, and half the logarithm of the share of it that those
taken before do not explain.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_LEAST = 1e-6  # of a share: below, a candidate is as good as taken already, and rounding would order what is alike


def spread_out(
    quality: Floats,
    similarity: Floats,
    n: int,
    *,
    weight: float,
    n_before: int = 0,
    take: Callable[[int], bool] = lambda row: True,
) -> list[int]:
    """Rows of up to n candidates in the order in which they are taken; of equal ones the first.

    Time grows with n² times the number of candidates.

    Args:
        quality: (N,), of the candidates, in units of the differences that matter.
        similarity: (N, N), positive semidefinite, 1 on the diagonal.
        n: How many are taken, at most.
        weight: Of unlikeness beside quality; 0 takes the highest quality alone.
        n_before: So many rows at the beginning were taken before, count in what the others add, and are not returned.
        take: Is told of each in turn; those that it refuses are passed over.
    """
    n_rows = n_before + n
    known = np.zeros((min(n_rows, len(quality)), len(quality)))
    share = np.ones(len(quality))
    is_open = np.ones(len(quality), dtype=np.bool_)
    taken: list[int] = []
    n_known = 0

    def see(row: int) -> None:
        nonlocal n_known, share
        if share[row] > _LEAST:
            explained = known[:n_known, row] @ known[:n_known]
            known[n_known] = (similarity[row] - explained) / np.sqrt(share[row])
            share = share - known[n_known] ** 2
            n_known += 1

    for row in range(n_before):
        is_open[row] = False
        see(row)
    while len(taken) < n and is_open.any():
        worth = np.where(is_open, quality + weight / 2 * np.log(np.maximum(share, _LEAST)), -np.inf)
        row = int(worth.argmax())
        is_open[row] = False
        if take(row):
            taken.append(row)
            see(row)
    return taken


def in_batch_ranges(acquisition: Floats, n: int) -> NDArray[np.float64]:
    """Acquisitions (N,) in units of how far the best one is above the n-th best: 0 the best, -1 the n-th."""
    ordered = np.sort(acquisition)[::-1]
    size = float(ordered[0] - ordered[min(n, len(ordered)) - 1]) or float(ordered.std()) or 1.0
    found: NDArray[np.float64] = (acquisition - ordered[0]) / size
    return found
