"""Sums with the same bits wherever they are computed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def weighted_sum(weights: Floats, rows: Floats) -> NDArray[np.float64]:
    """The sum (n,) of rows (K, n) times weights (K,), row after row.

    A product of matrices would depend, in its last bits, on how many threads it has, and on where in the rows a number
    stands: equal columns would give sums that are not equal.
    """
    total = np.zeros(rows.shape[1:])
    for weight, row in zip(weights, rows, strict=True):
        total += weight * row.astype(np.float64)
    return total
