"""A batch whose later picks know that the earlier ones will be measured."""

import numpy as np
import pytest
from numpy.typing import NDArray

from search.suggestion.conditioned import in_turn


def believed(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    roots = random.normal(size=(n, n))
    return random.normal(size=n), roots @ roots.T / n


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_each_pick_is_the_highest_given_that_those_before_are_measured(beta: float) -> None:
    mean, covariance = believed(30, 1)
    noise = 0.2
    rows, sums = in_turn(mean, covariance, noise, 8, beta=beta)
    taken: list[int] = []
    for row, value in zip(rows, sums, strict=True):
        left = covariance
        if taken:
            known = covariance[np.ix_(taken, taken)] + noise * np.eye(len(taken))
            left = covariance - covariance[:, taken] @ np.linalg.solve(known, covariance[taken])
        bounds = mean + beta * np.sqrt(left.diagonal())
        bounds[taken] = -np.inf
        assert row == bounds.argmax()
        assert value == pytest.approx(bounds.max(), rel=1e-9)
        taken.append(row)
    assert sums == sorted(sums, reverse=True)


def test_what_is_alike_is_not_picked_twice_and_what_was_measured_before_counts() -> None:
    """The second is the first over again; the third, of which nothing is known, is expected to be a little worse."""
    mean = np.array([1.0, 1.0, 0.5])
    covariance = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert in_turn(mean, covariance, 0.01, 3)[0] == [0, 2, 1]
    assert in_turn(mean, covariance, 0.01, 2, n_before=1)[0] == [2, 1]
    assert in_turn(mean, covariance, 0.01, 3, take=lambda row: row != 0)[0] == [1, 2]
    assert in_turn(mean, covariance, 0.01, 9, beta=0)[0] == [0, 1, 2]
