"""The chance that a candidate is truly among the best K, from predictions of all candidates and their deviations.

Measurements are taken to be independent, each its prediction plus an error with the distribution of the out-of-fold
errors, of the candidate's own size, up as likely as down. Then the number of the other candidates above a value y is a
sum of independent events, whose mean M and variance V are known; it is taken to be M - V plus a Poisson number of
mean V (Röllin 2007, "Translated Poisson approximation"), which is exact for events that are certain and for rare ones.
The chance of being in the top K is that of fewer than K others above one's own measurement. Candidates with nearly the
same prediction and deviation count as the same others, so that a million take seconds and some bytes each.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

N_ATOMS = 64
"""How many sizes an error may have, all as likely."""
_N_COARSE, _N_FINE = 256, 4096  # values at which others are counted, of all and where it matters
_NEVER = 1e-6
_N_PREDICTIONS, _N_DEVIATIONS = 2048, 16  # classes of others, where there are more candidates
_N_AT_ONCE = 1024
_LEAST_VARIANCE = 1e-9
_LEAST_SIZE = 6e-3  # of an error, in parts of the range that matters: smaller ones fall between the values
_PRECISION = 1e-7  # of predictions

Floats = NDArray[np.floating[Any]]


def top_chance(prediction: Floats, deviation: Floats, atoms: Floats, k: int) -> NDArray[np.float32]:
    """The chance (n,) of each of n candidates to be among the best k, 1 of all where there are no more than k.

    Args:
        prediction: (n,).
        deviation: (n,), the standard deviation of the measurement around it.
        atoms: (m,), sizes of errors, all as likely, in ascending order, in units of their root mean square.
        k: From 1.
    """
    n = len(prediction)
    if k >= n:
        return np.ones(n, dtype=np.float32)
    mean, size = prediction.astype(np.float64), deviation.astype(np.float64)
    # More than k lie above `start` for certain, and fewer than k can lie above `stop`, however far away others are.
    reach = atoms[-1] * size
    start = float(np.partition(mean - reach, n - k - 1)[n - k - 1])
    stop = float(np.partition(mean + reach, n - k)[n - k])
    span = max(stop - start, _PRECISION * max(abs(start), abs(stop))) or 1.0
    size = np.maximum(size, _LEAST_SIZE * span)
    reach = atoms[-1] * size
    beyond = _LEAST_SIZE * span * max(1.0, atoms[-1])
    start, stop = start - beyond, stop + beyond
    is_open = (mean + reach >= start) & (mean - reach <= stop)
    n_above = int(np.count_nonzero(mean - reach > stop))
    classes = _classes(mean[is_open], size[is_open], near=(start - span, stop + span), most=span)
    others = _Others(*classes, errors=np.concatenate([-atoms[::-1], atoms]))
    values = np.linspace(start, stop, _N_COARSE)
    # Where it is open whether a value is in the top k; oneself is among the counted or not.
    low, high = (others.are_fewer(values, k - n_above, own) for own in (1.0, 0.0))
    first = max(0, int(np.searchsorted(low, _NEVER)) - 1)
    last = min(_N_COARSE - 1, int(np.searchsorted(high, 1 - _NEVER)))
    values = np.linspace(values[first], values[last], _N_FINE)
    found = np.zeros(n)
    for error, own in zip(others.errors, 1 - _shares(others.errors), strict=True):
        found += np.interp(mean + size * error, values, others.are_fewer(values, k - n_above, own), left=0, right=1)
    return (found / len(others.errors)).astype(np.float32)


class _Others:
    """The candidates whose place is open, as classes of one prediction (c,), deviation (c,) and number (c,) each."""

    def __init__(self, prediction: Floats, deviation: Floats, counts: Floats, *, errors: Floats) -> None:
        self.errors = errors
        self._classes = prediction, deviation, counts
        self._known: tuple[Floats, Floats, Floats] | None = None

    def are_fewer(self, values: Floats, k: int, own: float) -> Floats:
        """The chance (v,) that fewer than k others lie above each value (v,), if oneself does with the chance `own`."""
        if self._known is None or self._known[0] is not values:
            self._known = values, *self._above(values)
        _, n_above, variance = self._known
        v = np.maximum(variance - own * (1 - own), _LEAST_VARIANCE)
        room = k - (n_above - own - v)
        chance: Floats = np.where(room > 0, gammaincc(np.maximum(room, _LEAST_VARIANCE), v), 0)
        return np.maximum.accumulate(chance)  # it rises but for rounding

    def _above(self, values: Floats) -> tuple[Floats, Floats]:
        """Mean (v,) and variance (v,) of how many of all lie above each value (v,)."""
        n_above, variance = np.zeros(len(values)), np.zeros(len(values))
        prediction, deviation, counts = self._classes
        for first in range(0, len(counts), _N_AT_ONCE):
            rows = slice(first, first + _N_AT_ONCE)
            ratio = (values[:, None] - prediction[rows]) / deviation[rows]
            chance = 1 - np.interp(ratio, self.errors, _shares(self.errors), left=0, right=1)
            n_above += chance @ counts[rows]
            variance += (chance * (1 - chance)) @ counts[rows]
        return n_above, variance


def _shares(errors: Floats) -> Floats:
    """Which part of all errors each of these, in ascending order, is above."""
    shares: Floats = (np.arange(len(errors)) + 0.5) / len(errors)
    return shares


def _classes(
    prediction: Floats, deviation: Floats, *, near: tuple[float, float], most: float
) -> tuple[Floats, Floats, Floats]:
    """Prediction, deviation and number of the candidates of each class that has any; each its own of few.

    near, most: predictions beyond these, and deviations above, are told apart no further.
    """
    n = len(prediction)
    if n <= _N_PREDICTIONS:
        return prediction, deviation, np.ones(n)
    place = _part(np.clip(prediction, *near), _N_PREDICTIONS) * _N_DEVIATIONS
    place += _part(np.minimum(deviation, most), _N_DEVIATIONS)
    counts = np.bincount(place)
    used = np.flatnonzero(counts)
    sums = [np.bincount(place, weights=of)[used] for of in (prediction, deviation)]
    return sums[0] / counts[used], sums[1] / counts[used], counts[used].astype(np.float64)


def _part(values: Floats, n_parts: int) -> NDArray[np.int64]:
    """In which of so many parts of the range each value lies."""
    span = np.ptp(values)
    if span == 0:
        return np.zeros(len(values), dtype=np.int64)
    part: NDArray[np.int64] = np.minimum((values - values.min()) / span * n_parts, n_parts - 1).astype(np.int64)
    return part
