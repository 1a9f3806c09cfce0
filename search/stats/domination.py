"""Several objectives at once: non-domination rank and crowding distance.

After Deb, Pratap, Agarwal and Meyarivan 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
Transactions on Evolutionary Computation 6. One candidate dominates another if it is no worse by any objective, and
better by one. The first front are those that none dominates, the second those that none of the rest does, and so on.
Within a front the crowding distance is how much room a candidate has between its neighbours by each objective, in parts
of that objective's range over all candidates, added up; infinite at the ends. Equal candidates share a front. Higher is
better.
"""

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def fronts(values: Floats) -> NDArray[np.int64]:
    """The front (n,) of each of n candidates, from 1, by their values (n, m) of m objectives.

    Of one or two objectives a million candidates take some seconds; of more the time grows with the size of the fronts
    too (Zhang, Tian, Cheng and Jin 2015, "An efficient approach to nondominated sorting").
    """
    distinct, place = np.unique(-values, axis=0, return_inverse=True)  # best first, by the first objective, the next...
    if values.shape[1] == 1:
        found = np.arange(1, 1 + len(distinct))
    elif values.shape[1] == 2:
        found = _of_two(distinct[:, 1])
    else:
        found = _of_more(distinct)
    result: NDArray[np.int64] = found[place.reshape(-1)].astype(np.int64)
    return result


def crowding(values: Floats, front: NDArray[np.int64]) -> NDArray[np.float64]:
    """The crowding distance (n,) of n candidates within their fronts (n,), by their values (n, m).

    Of equal candidates the order decides which of them is an end. An objective by which all are equal counts nothing.
    """
    found = np.zeros(len(values))
    for column in values.T.astype(np.float64):
        span = float(np.ptp(column)) if len(column) else 0.0
        if span == 0:
            continue
        order = np.lexsort((column, front))
        ordered, groups = column[order], front[order]
        room = np.full(len(order), np.inf)
        if len(order) > 2:
            is_inner = (groups[:-2] == groups[1:-1]) & (groups[2:] == groups[1:-1])
            room[1:-1][is_inner] = (ordered[2:] - ordered[:-2])[is_inner] / span
        found[order] += room
    return found


def best_first(front: NDArray[np.int64], distance: Floats) -> NDArray[np.int64]:
    """The numbers (n,) of candidates, the best first: by front, then the least crowded, then as they come."""
    order: NDArray[np.int64] = np.lexsort((-distance, front))
    return order


def _of_two(second: Floats) -> NDArray[np.int64]:
    """Fronts of distinct candidates, best first by one objective, whose other one (n,) is the lower the better.

    All that came before are no worse by the one, so that a front dominates a candidate if its lowest of the other is no
    higher; those lowest rise from front to front.
    """
    lowest: list[float] = []
    found = np.empty(len(second), dtype=np.int64)
    for row, value in enumerate(second.tolist()):
        at = bisect_right(lowest, value)
        if at == len(lowest):
            lowest.append(value)
        else:
            lowest[at] = value
        found[row] = at + 1
    return found


def _of_more(costs: Floats) -> NDArray[np.int64]:
    """Fronts of distinct candidates with costs (n, m), in ascending order: whoever dominates one came before it."""
    members: list[_Members] = []
    found = np.empty(len(costs), dtype=np.int64)
    rest = np.ascontiguousarray(costs[:, 1:])
    for row, cost in enumerate(rest):
        low, high = 0, len(members)
        while low < high:  # who is dominated by a front is so by those before it
            middle = (low + high) // 2
            if members[middle].dominates(cost):
                low = middle + 1
            else:
                high = middle
        if low == len(members):
            members.append(_Members(rest.shape[1]))
        members[low].add(cost)
        found[row] = low + 1
    return found


class _Members:
    """The costs of a front that can still dominate anyone: those that none of the others is below."""

    def __init__(self, n_objectives: int) -> None:
        self._costs = np.empty((16, n_objectives))
        self._n = 0

    def dominates(self, cost: Floats) -> bool:
        return bool((self._costs[: self._n] <= cost).all(axis=1).any())

    def add(self, cost: Floats) -> None:
        kept = ~(self._costs[: self._n] >= cost).all(axis=1)
        n = int(kept.sum())
        if n < self._n:
            self._costs[:n] = self._costs[: self._n][kept]
        elif n == len(self._costs):
            self._costs = np.concatenate([self._costs, np.empty_like(self._costs)])
        self._costs[n] = cost
        self._n = n + 1
