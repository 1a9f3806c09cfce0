"""How well predictions rank and hit a test set.

All metrics are computed in float64 over all test rows. Higher is better, but for the mean squared error. Equal
predictions are in no order: a metric is what it would be on average over all ways to put them in one.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from search.spread import Spread, spread

Floats = NDArray[np.float64]


class UnusablePredictions(Exception):
    """Predictions that no metric can be computed of; the message says what is wrong with them."""


def spearman(prediction: Floats, target: Floats) -> float:
    """Rank correlation, as `models.metrics` has it for tensors; both are (M,). NaN if either is all the same."""
    if (prediction == prediction[0]).all() or (target == target[0]).all():
        return math.nan
    return float(spearmanr(prediction, target).statistic)


def mean_squared_error(prediction: Floats, target: Floats) -> float:
    """Mean of (prediction - target)^2, in squared units of the target; both are (M,)."""
    return float(np.mean((prediction - target) ** 2))


def ndcg(prediction: Floats, target: Floats) -> float:
    """Normalised discounted cumulative gain, 0 to 1, over all rows; both are (M,).

    Järvelin and Kekäläinen (2002) with the gain and the discount of scikit-learn's `ndcg_score`: the row at rank r,
    from 1, adds its gain divided by log2(r + 1), equal predictions share the mean of their gains, and the sum is
    divided by that of the best order. Fitness may be negative, where scikit-learn refuses it: the gain is the target
    scaled to 0 for the lowest and 1 for the highest of the test set, as in ProteinGym (Notin et al. 2023). NaN if all
    targets are equal.
    """
    span = target.max() - target.min()
    if span == 0:
        return math.nan
    gain = (target - target.min()) / span
    discount = 1 / np.log2(np.arange(len(gain)) + 2.0)
    _, group, size = np.unique(-prediction, return_inverse=True, return_counts=True)
    mean_gain = np.bincount(group, weights=gain) / size
    ends = size.cumsum()
    total = np.concatenate([[0.0], discount.cumsum()])
    return float((mean_gain * (total[ends] - total[ends - size])).sum() / (np.sort(gain)[::-1] * discount).sum())


def recall_of_top(prediction: Floats, target: Floats, share: float) -> float:
    """Which part of the best `share` of the rows stands among as many rows of the highest prediction; both are (M,).

    Top-k recall as in ProteinGym (Notin et al. 2023); k is M times the share, rounded up. Rows with the value at
    which a top k ends share the places that are left in it, so that neither the order of the rows nor equal
    values decide.
    """
    k = max(1, math.ceil(len(target) * share - 1e-9))  # 0.1 * 30 is a little more than 3
    return float((_membership(target, k) * _membership(prediction, k)).sum() / k)


def _membership(values: Floats, k: int) -> Floats:
    """How much of each row (M,) belongs to the k highest: 1, 0, or a part for those equal to the lowest of them."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above, at = values > edge, values == edge
    membership: Floats = above + at * ((k - above.sum()) / at.sum())
    return membership


METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "spearman": spearman,
    "mse": mean_squared_error,
    "ndcg": ndcg,
    "recall_top_1": lambda prediction, target: recall_of_top(prediction, target, 0.01),
    "recall_top_10": lambda prediction, target: recall_of_top(prediction, target, 0.10),
}
"""By the names that they have in files and in JSON; the numbers are per cent."""
_RANGES: Mapping[str, tuple[float, float]] = {
    "spearman": (-1.0, 1.0),
    "mse": (0.0, math.inf),
    "ndcg": (0.0, 1.0),
    "recall_top_1": (0.0, 1.0),
    "recall_top_10": (0.0, 1.0),
}


def check_predictions(prediction: NDArray[np.floating]) -> None:
    """Refuse predictions (M,) that a number would hide something of; no target is needed to see it.

    Raises:
        UnusablePredictions: One is not finite, or all are the same.
    """
    n_bad = int((~np.isfinite(prediction)).sum())
    if n_bad:
        raise UnusablePredictions(f"{n_bad} of {len(prediction)} test predictions are not finite")
    if (prediction == prediction[0]).all():
        raise UnusablePredictions(f"all {len(prediction)} test predictions are the same, so they rank nothing")


def measure(prediction: NDArray[np.floating], target: NDArray[np.floating]) -> dict[str, float]:
    """Every metric of predictions and targets, both (M,).

    Raises:
        UnusablePredictions: See `check_predictions`; or all targets are the same.
    """
    check_predictions(prediction)
    wide = prediction.astype(np.float64), target.astype(np.float64)
    values = {name: metric(*wide) for name, metric in METRICS.items()}
    if not all(map(math.isfinite, values.values())):
        raise UnusablePredictions("the test targets are all the same, so there is nothing to rank")
    return values


def spreads(per_seed: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Every metric over seeds."""
    return {name: spread([values[name] for values in per_seed], *_RANGES[name]) for name in METRICS}
