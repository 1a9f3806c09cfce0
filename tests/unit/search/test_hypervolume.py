"""Expected hypervolume improvement: against closed forms, random draws, and a batch by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from search.stats.hypervolume import OpenPoints, in_turn


def test_of_one_objective_it_is_the_expected_improvement() -> None:
    best, mean, deviation = 1.0, np.array([-1.0, 0.5, 1.0, 2.0]), np.array([0.5, 0.5, 1.0, 0.3])
    points = OpenPoints.above(np.array([[best]]), np.array([0.0]), np.array([6.0]))
    found = points.improvement(mean[:, None], deviation[:, None])
    z = (mean - best) / deviation
    expected = deviation * (z * norm.cdf(z) + norm.pdf(z))
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("n_objectives", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_of_several_it_is_what_draws_add_to_the_volume(n_objectives: int) -> None:
    draws = np.random.default_rng(0)
    front = np.array([[0.8, 0.2, 0.5], [0.5, 0.6, 0.1], [0.1, 0.9, 0.6]])[:, :n_objectives]
    low, high = np.zeros(n_objectives), np.full(n_objectives, 1.6)
    mean = np.array([[0.7, 0.7, 0.7], [0.4, 0.3, 0.4], [1.2, 0.1, 0.3]])[:, :n_objectives]
    deviation = np.full(mean.shape, 0.15)
    found = OpenPoints.above(front, low, high).improvement(mean, deviation)
    # The volume of what a draw dominates and the front does not, by other random points.
    places = draws.uniform(low, high, (100_000, n_objectives))
    places = places[~(places[:, None] <= front).all(axis=2).any(axis=1)]
    share = 1.6**n_objectives / 100_000
    for row in range(len(mean)):
        one = mean[row] + deviation[row] * draws.standard_normal((300, n_objectives))
        added = [share * (places <= reached).all(axis=1).sum() for reached in one]
        assert found[row] == pytest.approx(np.mean(added), rel=0.15, abs=3e-3)


def test_without_a_front_all_of_it_is_gained() -> None:
    points = OpenPoints.above(np.empty((0, 2)), np.zeros(2), np.ones(2))
    assert points.volume == 1
    assert points.improvement(np.array([[2.0, 2.0], [-1.0, 2.0]]), np.full((2, 2), 1e-3)).tolist() == [1, 0]


def test_each_of_a_batch_counts_what_those_before_it_leave() -> None:
    # The second reaches what the first does; the third reaches less, but elsewhere.
    reached = np.array([[0.9, 0.9, 0.9, 0.0], [0.9, 0.9, 0.8, 0.0], [0.0, 0.0, 0.0, 0.5], [0.1, 0.0, 0.0, 0.0]])
    assert in_turn(reached, np.ones(4), 4).tolist() == [0, 2, 1, 3]
    assert in_turn(reached, np.array([0.1, 1, 1, 1]), 2).tolist() == [1, 2]
    assert in_turn(reached[[0, 0]], np.ones(2), 2).tolist() == [0, 1]  # of equal ones the first
