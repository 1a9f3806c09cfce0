"""What several models predict together, and how far they are from each other."""

import numpy as np
from numpy.typing import NDArray

from search.stats.sums import weighted_sum


def mean_of(members: NDArray[np.float32], weights: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """The prediction (n,) of models (n_members, n); `weights` (n_members,) add up to 1, None is all the same."""
    if len(members) == 1:
        alone: NDArray[np.float32] = members[0]
        return alone
    mean = members.mean(axis=0, dtype=np.float64) if weights is None else weighted_sum(weights, members)
    prediction: NDArray[np.float32] = mean.astype(np.float32)
    return prediction


def deviation_of(
    members: NDArray[np.float32], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float32] | None:
    """The standard deviation (n,) of models (n_members, n) around `mean_of` them; None for one model.

    Without weights the denominator is n_members - 1; with weights it is 1 less the sum of their squares, which is the
    same where they are equal.
    """
    if len(members) == 1:
        return None
    if weights is None:
        plain: NDArray[np.float32] = members.std(axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        return plain
    apart = members.astype(np.float64) - weighted_sum(weights, members)
    variance = weighted_sum(weights, np.square(apart)) / (1 - np.square(weights).sum())
    deviation: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    return deviation


def combined(own: NDArray[np.float32], between: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The standard deviation (n,) of an ensemble whose members know their own (n_members, n): both variances add."""
    variance: NDArray[np.float64] = np.square(own, dtype=np.float64).mean(axis=0)
    if between is not None:
        variance = variance + np.square(between, dtype=np.float64)
    deviation: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    return deviation
