"""Non-domination rank and crowding distance, beside their definitions written out."""

import numpy as np
import pytest

from search.stats.domination import best_first, crowding, fronts


def by_definition(values):
    """Peel off those that none of the rest dominates."""
    front, left, number = np.zeros(len(values), dtype=int), list(range(len(values))), 1
    while left:
        free = [
            i
            for i in left
            if not any((values[j] >= values[i]).all() and (values[j] > values[i]).any() for j in left if j != i)
        ]
        front[free] = number
        left, number = [i for i in left if i not in set(free)], number + 1
    return front


def crowding_by_definition(values, front):
    """Deb et al. 2002, page 185, for each front."""
    distance = np.zeros(len(values))
    values = values.astype(np.float64)
    for number in np.unique(front):
        rows = np.flatnonzero(front == number)
        for column in values.T:
            order = rows[np.argsort(column[rows], kind="stable")]
            distance[order[0]] = distance[order[-1]] = np.inf
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                distance[here] += (column[after] - column[before]) / (column.max() - column.min())
    return distance


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["continuous", "tied", "line", "against"])
def test_fronts_are_those_of_the_definition(n_objectives, kind):
    random = np.random.default_rng(n_objectives)
    for n in (1, 2, 3, 40, 150):
        values = random.normal(size=(n, n_objectives)).astype(np.float32)
        if kind == "tied":
            values = np.round(values)
        elif kind == "line":
            values = np.repeat(values[:, :1], n_objectives, axis=1)
        elif kind == "against" and n_objectives > 1:
            values[:, 1] = -values[:, 0]
        front = fronts(values)
        assert front.tolist() == by_definition(values).tolist()
        if n > 1 and np.ptp(values, axis=0).all():
            np.testing.assert_allclose(crowding(values, front), crowding_by_definition(values, front))


def test_equal_candidates_share_a_front_and_come_in_their_order():
    values = np.array([[1, 1], [2, 0], [1, 1], [0, 0], [1, 1]], dtype=np.float32)
    front = fronts(values)
    assert front.tolist() == [1, 1, 1, 2, 1]
    order = best_first(front, np.array([1, np.inf, 1, np.inf, 1]))
    assert order.tolist() == [1, 0, 2, 4, 3]


def test_an_objective_by_which_all_are_equal_counts_nothing():
    values = np.array([[1, 7], [2, 7], [3, 7]], dtype=np.float32)
    assert fronts(values).tolist() == [3, 2, 1]
    alone = crowding(values, np.array([1, 1, 1]))
    assert alone.tolist() == [np.inf, 1, np.inf]
    assert crowding(values[:, 1:], np.array([1, 1, 1])).tolist() == [0, 0, 0]


def test_a_candidate_that_another_dominates_never_comes_before_it():
    random = np.random.default_rng(0)
    values = random.integers(0, 6, size=(200, 3)).astype(np.float32)
    front = fronts(values)
    place = np.empty(200, dtype=int)
    place[best_first(front, crowding(values, front))] = np.arange(200)
    for i in range(200):
        dominated = (values[i] >= values).all(axis=1) & (values[i] > values).any(axis=1)
        assert (place[i] < place[dominated]).all()


def test_no_candidates_have_no_fronts():
    nothing = np.empty((0, 2), dtype=np.float32)
    assert fronts(nothing).tolist() == crowding(nothing, fronts(nothing)).tolist() == []
