"""How sure a validation Spearman is: its standard error, and the interval of one fixed configuration.

All of it is on the scale of Fisher's z = artanh(rho), where the noise of a correlation is nearly normal and hardly
depends on the correlation itself. The noise is estimated from the predictions (`influence`, the infinitesimal
jackknife, which is the limit of the bootstrap over sequences and needs no random numbers), and taken to be
Student's t with n - 2 degrees of freedom, because its size is an estimate from n sequences.
`tests/benchmarks/bench_coverage.py` measures what the intervals cover.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

LEVEL = 0.95
"""Of all intervals."""
MIN_SEQUENCES = 4
"""Of fewer, a Spearman says nothing: its interval is -1 to 1."""
_ROUNDING = 1e-9

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """Where a Spearman lies at `LEVEL`; -1 <= low <= high <= 1."""

    low: float
    high: float


EVERYTHING = ConfidenceInterval(low=-1.0, high=1.0)


def influence(predictions: Floats, target: Floats) -> Floats:
    """How much more weight on each sequence would change Spearman's rho: the change is the mean of these times weight.

    Their mean is 0, and rho's sampling variance is about their mean square divided by n. Ties share their mean rank.

    Args:
        predictions: (K, n), of K configurations, none of them constant.
        target: (n,), not constant.

    Returns:
        (K, n) float64.
    """
    x, y = _Ranks(predictions), _Ranks(target[None])
    a = np.sum(x.rank**2, axis=1, keepdims=True)
    b = np.sum(y.rank**2, axis=1, keepdims=True)
    rho = np.sum(x.rank * y.rank, axis=1, keepdims=True) / np.sqrt(a * b)
    # A weight on i counts i itself more, and raises the ranks of all that are above i.
    by_a = x.rank**2 + 2 * x.sum_above(x.rank)
    by_b = y.rank**2 + 2 * y.sum_above(y.rank)
    by_product = x.rank * y.rank + x.sum_above(y.rank) + y.sum_above(x.rank)
    changes: Floats = len(target) * (by_product / np.sqrt(a * b) - rho / 2 * (by_a / a + by_b / b))
    return changes


class _Ranks:
    """The mean ranks (K, n) of values (K, n), centred, and sums over the values above each."""

    def __init__(self, values: Floats) -> None:
        # As `scipy.stats.rankdata` would, which takes a second to import, and `status --json` asks.
        self._order = np.argsort(values, axis=1)
        ordered = np.take_along_axis(values, self._order, axis=1)
        # Of each value: how many are below it, and how many are not above it.
        self._n_below, self._n_up_to = np.empty_like(self._order), np.empty_like(self._order)
        below = np.stack([np.searchsorted(row, row, "left") for row in ordered])
        up_to = np.stack([np.searchsorted(row, row, "right") for row in ordered])
        np.put_along_axis(self._n_below, self._order, below, axis=1)
        np.put_along_axis(self._n_up_to, self._order, up_to, axis=1)
        self.rank: Floats = (self._n_below + self._n_up_to - values.shape[1]) / 2.0

    def sum_above(self, centred: Floats) -> Floats:
        """Sums (K, n) of `centred` (K, n), whose totals are 0, over all values above each; equal ones count half."""
        shape = np.broadcast_shapes(centred.shape, self._order.shape)
        order, below, up_to = (np.broadcast_to(part, shape) for part in (self._order, self._n_below, self._n_up_to))
        running = np.zeros((shape[0], shape[1] + 1))
        np.cumsum(np.take_along_axis(np.broadcast_to(centred, shape), order, axis=1), axis=1, out=running[:, 1:])
        sums: Floats = (np.take_along_axis(running, below, axis=1) + np.take_along_axis(running, up_to, axis=1)) / 2
        return -sums


def fisher_z(rho: Floats | float, n: int) -> Floats:
    """The artanh of Spearmans of n sequences; of a perfect one that of the next lower value that n can have."""
    most = 1 - 6 / (n**3 - n)
    z: Floats = np.arctanh(np.clip(rho, -most, most))
    return z


def normal_error(rho: float, n: int) -> float:
    """Standard error of z for a bivariate normal population (Bonett and Wright 2000); n is at least `MIN_SEQUENCES`."""
    return math.sqrt((1 + rho**2 / 2) / (n - 3))


def z_influence(rho: Floats, influences: Floats) -> Floats:
    """`influence` on z (K, n), scaled such that the standard error of z is the root of their sum of squares.

    Args:
        rho: (K,), the Spearman at which z is looked at.
        influences: (K, n), on rho; n is at least `MIN_SEQUENCES`.
    """
    n = influences.shape[1]
    slope = 1 - np.tanh(fisher_z(rho, n)) ** 2
    changes: Floats = influences / n / slope[:, None]
    for k in np.flatnonzero(np.linalg.norm(changes, axis=1) < _ROUNDING):  # a perfect rank correlation
        changes[k] = normal_error(rho[k], n) / math.sqrt(n)
    return changes


def interval(prediction: Floats, target: Floats) -> ConfidenceInterval:
    """The interval of a configuration that was fixed before these targets (n,) were looked at; none is constant."""
    from scipy import stats  # takes a second to import, and few ask

    rho = float(stats.spearmanr(prediction, target).statistic)
    return interval_from_influence(rho, influence(prediction[None], target)[0])


def interval_from_influence(rho: float, influences: Floats) -> ConfidenceInterval:
    """The interval over other n sequences of a Spearman, or a mean of several, with these influences (n,)."""
    n = len(influences)
    if n < MIN_SEQUENCES:
        return EVERYTHING
    width = half_width(float(np.linalg.norm(z_influence(np.array([rho]), influences[None]))), n - 2)
    return around(float(fisher_z(rho, n)), width, width)


def half_width(error: float, freedom: float) -> float:
    """Half the width of the interval of what has this standard error, estimated with so many degrees of freedom."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * error


@dataclass(frozen=True, kw_only=True)
class Difference:
    """By how much one Spearman exceeds another: value, its standard error, and its interval at `LEVEL`."""

    value: float
    error: float
    low: float
    high: float


def difference(
    one: float, other: float, influences: tuple[Floats, Floats], seeds: Sequence[tuple[float, int]] = ()
) -> Difference:
    """The difference of two Spearman correlations on the same sequences, as if both were chosen before seeing them.

    Args:
        one: the first, or the mean of several, over seeds for one.
        other: the second, likewise.
        influences: of each, or their mean, (n,) of the same n sequences in the same order, n at least `MIN_SEQUENCES`.
        seeds: of what is a mean over two or more seeds, the standard deviation between them and their number.
    """
    n = len(influences[0])
    parts = [(float(np.sum((influences[0] - influences[1]) ** 2)) / n**2, n - 2)]
    parts += [(std**2 / n_seeds, n_seeds - 1) for std, n_seeds in seeds]
    variance = math.fsum(part for part, _ in parts)
    if variance == 0:
        return Difference(value=one - other, error=0.0, low=one - other, high=one - other)
    freedom = variance**2 / math.fsum(part**2 / of for part, of in parts)  # Welch and Satterthwaite
    half = half_width(math.sqrt(variance), freedom)
    return Difference(value=one - other, error=math.sqrt(variance), low=one - other - half, high=one - other + half)


def interval_from_size(rho: float, n: int, *, n_trials: int = 1) -> ConfidenceInterval:
    """An interval without predictions: as if all were normal, and the noise of `n_trials` as if independent.

    The trials of a study share most of their noise, so for the best of them it is too wide.
    """
    if n < MIN_SEQUENCES:
        return EVERYTHING
    error = normal_error(rho, n)
    low = float(stdtrit(n - 2, ((1 + LEVEL) / 2) ** (1 / n_trials))) * error
    return around(float(fisher_z(rho, n)), low, half_width(error, n - 2))


def around(z: float, below: float, above: float) -> ConfidenceInterval:
    """The interval of rho from z - below to z + above."""
    return ConfidenceInterval(low=math.tanh(z - below), high=math.tanh(z + above))
