"""How well predictions rank and hit a test set, and how far that varies between seeds.

All metrics are computed in float64 over all test rows. Higher is better, but for the mean squared error. Equal
predictions are in no order: a metric is what it would be on average over all ways to put them in one.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import sem, spearmanr

from search.stats.intervals import LEVEL, ConfidenceInterval, half_width, influence, interval_from_influence

Floats = NDArray[np.float64]
_N_GROUPS = 40
_ROUNDING = 1e-6  # of a value; far below what another seed of a network does, above what another order of sums does
_SEED = 20210704


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
    k = n_top(len(target), share)
    return float((_membership(target, k) * _membership(prediction, k)).sum() / k)


def n_top(n: int, share: float) -> int:
    """How many of n rows the best `share` is, rounded up."""
    return max(1, math.ceil(n * share - 1e-9))  # 0.1 * 30 is a little more than 3


def _membership(values: Floats, k: int) -> Floats:
    """How much of each row (M,) belongs to the k highest: 1, 0, or a part for those equal to the lowest of them."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above, at = values > edge, values == edge
    membership: Floats = above + at * ((k - above.sum()) / at.sum())
    return membership


SHARES: Mapping[str, float] = {"recall_top_1": 0.01, "recall_top_10": 0.10}
METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "spearman": spearman,
    "mse": mean_squared_error,
    "ndcg": ndcg,
    **{name: partial(recall_of_top, share=share) for name, share in SHARES.items()},
}
"""By the names that they have in files and in JSON; the numbers are per cent."""
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(METRICS, (0.0, 1.0)),
    "spearman": (-1.0, 1.0),
    "mse": (0.0, math.inf),
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


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over seeds: mean, sample standard deviation, and the 95 % t interval of the mean.

    Of one seed, and of seeds that agree but for rounding, as those of an exact model do, there is no standard deviation
    and no interval: they are None, because other seeds are not what the value depends on.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Spread:
    """A metric over seeds, whose values lie between `least` and `most`.

    The interval is mean ± t(0.975, n - 1) * std / sqrt(n) of n seeds: it says how far another choice of seeds would
    move the mean, nothing about other test rows (`over_sequences` does). It ends where the metric
    does, which costs it no coverage.
    """
    n = len(values)
    if max(values) - min(values) <= _ROUNDING * abs(values[0]):
        return Spread(mean=values[0], std=None, low=None, high=None)
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = half_width(std / math.sqrt(n), n - 1)
    return Spread(mean=mean, std=std, low=max(least, mean - half), high=min(most, mean + half))


def spreads(per_seed: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Every metric over seeds."""
    return {name: spread([values[name] for values in per_seed], *_RANGES[name]) for name in METRICS}


def over_sequences(predictions: NDArray[np.floating], target: NDArray[np.floating]) -> dict[str, ConfidenceInterval]:
    """How far every metric, the mean over seeds, would move on M other test rows: 95 % intervals of predictions (S, M).

    Spearman: the jackknife of `search.stats.intervals`. Mean squared error: that of a mean of M errors. Recall of the
    top k: Wilson's of a share of k rows. NDCG: the jackknife that leaves one of `_N_GROUPS` random groups of rows out.
    Predictions are those that `check_predictions` lets pass.
    """
    wide, values = predictions.astype(np.float64), target.astype(np.float64)
    per_seed = [measure(row, target) for row in predictions]
    mean = {name: statistics.fmean(one[name] for one in per_seed) for name in METRICS}
    errors = ((wide - values) ** 2).mean(axis=0)
    halves = {"mse": half_width(float(sem(errors)), len(errors) - 1), "ndcg": _jackknife(wide, values)}
    ends = {name: (mean[name] - half, mean[name] + half) for name, half in halves.items()}
    ends |= {name: _wilson(mean[name], n_top(len(values), share)) for name, share in SHARES.items()}
    found = {"spearman": interval_from_influence(mean["spearman"], mean_influence(predictions, target))}
    for name, (low, high) in ends.items():
        least, most = _RANGES[name]
        found[name] = ConfidenceInterval(low=max(least, low), high=min(most, high))
    return found


def kept_interval(values: Mapping[str, Any]) -> ConfidenceInterval | None:
    """The Spearman's interval over test sequences in one of a reading's `values`; None where it was not kept yet."""
    found = values.get("over_sequences")
    return None if found is None else ConfidenceInterval(low=found["spearman"][0], high=found["spearman"][1])


def mean_influence(predictions: NDArray[np.floating], target: NDArray[np.floating]) -> Floats:
    """The influences (M,) of the rows on the mean over seeds of the Spearman of predictions (S, M)."""
    mean: Floats = influence(predictions.astype(np.float64), target.astype(np.float64)).mean(axis=0)
    return mean


def _jackknife(predictions: Floats, target: Floats) -> float:
    """Half the width of the interval of NDCG, the mean over predictions (S, M)."""
    n_groups = min(_N_GROUPS, len(target))
    group = np.random.default_rng(_SEED).permutation(len(target)) % n_groups
    without = [
        np.mean([ndcg(row[group != number], target[group != number]) for row in predictions])
        for number in range(n_groups)
    ]
    return half_width(math.sqrt(n_groups - 1) * float(np.std(without)), n_groups - 1)


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of n rows, which ties and several seeds make no whole number of rows."""
    z = float(ndtri((1 + LEVEL) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
