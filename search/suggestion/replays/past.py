"""The past as a game: what an acquisition picks of variants that are all measured by now, and what that finds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.experiments.averages import mean_of
from search.suggestion.acquisition import acquired, uniform_draws
from search.suggestion.picker import Diversity, Picker

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Forecast:
    """What was predicted of n variants before anybody measured them.

    sequences: of each. members: (n_models, n), what each model predicts. weights: (n_models,), what each counts; None:
    all the same. deviation: (n,), calibrated; None where
    nothing is known of it. best: the highest value that had been measured by then. sites: of each, positions from 0 on
    at which it differs from the wild type; empty where none is known.
    """

    sequences: Sequence[bytes]
    members: NDArray[np.float32]
    deviation: Floats | None
    best: float
    sites: Sequence[Sequence[int]] = field(default=())
    weights: NDArray[np.float64] | None = None


def picked(
    name: str,
    forecast: Forecast,
    n: int,
    *,
    beta: float = 1.0,
    seed: int = 0,
    diversity: Diversity | None = None,
) -> NDArray[np.int64]:
    """Which of the variants an acquisition picks, (n,) or fewer, the first first; of equal ones the one that is first.

    Args:
        name: One of `search.options.of_suggest.ACQUISITIONS`.
        forecast: Of the variants.
        n: How many.
        beta: Of `ucb`.
        seed: Of `thompson`.
        diversity: What the batch has to keep to; None: nothing.
    """
    draws = uniform_draws(forecast.sequences, seed) if name == "thompson" else None
    value = acquired(
        name,
        mean_of(forecast.members, forecast.weights),
        forecast.deviation,
        beta=beta,
        best=forecast.best,
        members=forecast.members,
        weights=forecast.weights,
        draws=draws,
    )
    order: NDArray[np.int64] = np.argsort(-value, kind="stable")
    if diversity is None or diversity == Diversity():
        return order[:n]
    picker = Picker(n, diversity)
    sites = forecast.sites or [()] * len(order)
    taken = [row for row in order.tolist() if picker.take(forecast.sequences[row].decode("ascii"), sites[row])]
    return np.array(taken, dtype=np.int64)


def among_best(value: Floats, n_best: int) -> NDArray[np.bool_]:
    """Which of n measured values (n,) are the `n_best` highest, and what is as high as the last of them."""
    least = np.sort(value)[::-1][min(n_best, len(value)) - 1]
    found: NDArray[np.bool_] = value >= least
    return found


def expected_highest(value: Floats, n: int) -> float:
    """The highest of `n` of the values (N,) that are drawn at random without being put back, on average over draws."""
    ordered = np.sort(value)
    n_all = len(ordered)
    # The i-th smallest is the highest of n where the other n - 1 are among those below it.
    places = np.arange(n - 1, n_all)
    log = [_log_choose(place, n - 1) - _log_choose(n_all, n) for place in places.tolist()]
    return float(np.sum(np.exp(log) * ordered[places]))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
