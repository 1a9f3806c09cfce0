"""The past as a game: picks by forecasts, the best of what was measured, and what random picks find on average."""

import itertools

import numpy as np
import pytest

from search.suggestion.picker import Diversity
from search.suggestion.replays.past import Forecast, among_best, expected_highest, picked


def forecast(*predictions: float, deviation: list[float] | None = None, best: float = 0.0) -> Forecast:
    n = len(predictions)
    return Forecast(
        sequences=[b"MK" + bytes([65 + i]) * 2 for i in range(n)],
        members=np.array([predictions], dtype=np.float32),
        deviation=None if deviation is None else np.array(deviation),
        best=best,
        sites=[(2, 3)] * n,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("greedy", [2, 1]), ("ucb", [0, 2]), ("expected-improvement", [0, 2])],
)
def test_an_acquisition_picks_its_highest_first(name: str, expected: list[int]) -> None:
    """The first is uncertain, and the best measured value lies above all predictions."""
    found = picked(name, forecast(0.0, 1.0, 2.0, deviation=[9.0, 0.1, 0.5], best=4.0), 2, beta=2.0)
    assert found.tolist() == expected


def test_draws_follow_the_seed_and_the_sequence_alone() -> None:
    flat = forecast(*[0.0] * 40, deviation=[1.0] * 40)
    first = picked("thompson", flat, 40, seed=1)
    assert picked("thompson", flat, 40, seed=1).tolist() == first.tolist()
    assert picked("thompson", flat, 40, seed=2).tolist() != first.tolist()


def test_a_batch_keeps_to_what_is_asked_of_it() -> None:
    given = forecast(3.0, 2.0, 1.0)
    assert picked("greedy", given, 3, diversity=Diversity()).tolist() == [0, 1, 2]
    assert picked("greedy", given, 3, diversity=Diversity(max_per_position=2)).tolist() == [0, 1]
    assert picked("greedy", given, 3, diversity=Diversity(min_distance=3)).tolist() == [0]


def test_what_is_as_high_as_the_last_of_the_best_is_one_of_them() -> None:
    value = np.array([1.0, 5.0, 3.0, 5.0, 4.0, 3.0])
    assert np.flatnonzero(among_best(value, 2)).tolist() == [1, 3]
    assert np.flatnonzero(among_best(value, 4)).tolist() == [1, 2, 3, 4, 5]
    assert among_best(value, 99).all()


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_random_picks_find_what_they_find_on_average_over_all_draws(n: int) -> None:
    value = np.array([0.3, -1.0, 2.0, 2.0, 0.7])
    every = [max(draw) for draw in itertools.combinations(value.tolist(), n)]
    assert expected_highest(value, n) == pytest.approx(np.mean(every))


def test_the_average_of_many_values_neither_overflows_nor_is_lost() -> None:
    value = np.arange(100_000, dtype=np.float64)
    assert expected_highest(value, 96) == pytest.approx(96 / 97 * 100_001 - 1, rel=1e-6)
