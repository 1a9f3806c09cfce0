"""How far a metric varies between seeds: its mean and how sure that is."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from search.stats.intervals import half_width


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over seeds: mean, sample standard deviation, and the 95 % t interval of the mean.

    Of one seed, and of seeds that agree, as those of an exact model do, there is no standard deviation and no interval:
    they are None, because other seeds are not what the value depends on.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Spread:
    """A metric over seeds, whose values lie between `least` and `most`.

    The interval is mean ± t(0.975, n - 1) * std / sqrt(n) of n seeds: it says how far another choice of seeds would
    move the mean, nothing about other test rows (`search.stats.metrics.over_sequences` does). It ends where the metric
    does, which costs it no coverage.
    """
    n = len(values)
    if len(set(values)) == 1:
        return Spread(mean=values[0], std=None, low=None, high=None)
    mean, std = statistics.fmean(values), statistics.stdev(values)
    half = half_width(std / math.sqrt(n), n - 1)
    return Spread(mean=mean, std=std, low=max(least, mean - half), high=min(most, mean + half))
