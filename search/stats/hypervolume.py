"""Expected hypervolume improvement: by how much a measurement is expected to move the front of several objectives.

The hypervolume of a front is the volume of what it dominates above a reference point (Zitzler and Thiele 1999,
"Multiobjective evolutionary algorithms: a comparative case study and the strength Pareto approach"). What is expected
to be added by a candidate is the integral, over all points that the front does not dominate, of the chance that the
candidate reaches the point by every objective (Emmerich, Giannakoglou and Naujoks 2006, "Single- and multiobjective
evolutionary optimization assisted by Gaussian random field metamodels"). It is computed at the points of a Halton
sequence, always the same ones. Errors are normal, and independent of each other. Of a batch each candidate counts what
those before it are expected to leave (the sequential greedy choice of Daulton, Balandat and Bakshy 2020,
"Differentiable expected hypervolume improvement for parallel multi-objective Bayesian optimization"). Higher is better.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats.qmc import Halton

Floats = NDArray[np.floating[Any]]
_N_POINTS = 2048
_N_DRAWN = 16 * _N_POINTS
"""Of which those that the front dominates are left out."""
_ROWS = 2048  # candidates at a time
_LEAST = 1e-30  # of a deviation, so that nothing is divided by zero


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenPoints:
    """Points (K, m) that a front does not dominate, which stand for a `volume`."""

    points: Floats
    volume: float

    @classmethod
    def above(cls, front: Floats, low: Floats, high: Floats) -> "OpenPoints":
        """Those between `low` and `high` (m,) each, which is above the front (k, m) by some objective; k may be 0."""
        drawn = low + (high - low) * Halton(d=len(low), scramble=False).random(_N_DRAWN + 1)[1:]
        is_open = np.ones(len(drawn), dtype=np.bool_)
        for one in front:
            is_open &= (drawn > one).any(axis=1)
        return cls(points=drawn[is_open][:_N_POINTS], volume=float(np.prod(high - low) * is_open.mean()))

    def some(self, n: int) -> "OpenPoints":
        """The first n of them, which stand for the same volume."""
        return OpenPoints(points=self.points[:n], volume=self.volume)

    def reached(self, mean: Floats, deviation: Floats) -> NDArray[np.float64]:
        """The chance (n, K) that each of n candidates, of mean and deviation (n, m), reaches each point."""
        found = np.ones((len(mean), len(self.points)))
        for number, column in enumerate(self.points.T):
            size = np.maximum(deviation[:, number].astype(np.float64), _LEAST)
            found *= ndtr((mean[:, number, None].astype(np.float64) - column) / size[:, None])
        return found

    def improvement(self, mean: Floats, deviation: Floats) -> NDArray[np.float64]:
        """The expected improvement (n,) by each of n candidates alone, of mean and deviation (n, m)."""
        found = np.empty(len(mean))
        for first in range(0, len(mean), _ROWS):
            some = slice(first, first + _ROWS)
            found[some] = self.volume * self.reached(mean[some], deviation[some]).mean(axis=1)
        return found


def in_turn(reached: Floats, share: Floats, n: int) -> NDArray[np.int64]:
    """The numbers of n of N candidates, each the one that adds most to those before it; of equal ones the first.

    Args:
        reached: (N, K), the chance that a candidate reaches a point.
        share: (N,), what a candidate's part counts besides.
        n: At most N.
    """
    left = np.ones(reached.shape[1])
    is_free = np.ones(len(reached), dtype=np.bool_)
    order = []
    for _ in range(n):
        gain = np.where(is_free, share * (reached @ left), -1)
        best = int(gain.argmax())
        order.append(best)
        is_free[best] = False
        left *= 1 - share[best] * reached[best]
    return np.array(order, dtype=np.int64)
