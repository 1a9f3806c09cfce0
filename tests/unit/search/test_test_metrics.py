"""What is said of a test set is what the definitions say, whatever is tied, negative or not finite."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem, spearmanr
from scipy.stats import t as student
from sklearn.metrics import mean_squared_error, ndcg_score

from search.stats.intervals import interval
from search.stats.metrics import (
    METRICS,
    UnusablePredictions,
    measure,
    ndcg,
    over_sequences,
    recall_of_top,
    spread,
    spreads,
)

RANDOM = np.random.default_rng(0)
TARGET = RANDOM.normal(size=500)
PREDICTION = (TARGET + RANDOM.normal(size=500)).astype(np.float32)
ROUGH = np.round(PREDICTION)  # with ties


@pytest.mark.parametrize("prediction", [PREDICTION, ROUGH], ids=["distinct", "tied"])
def test_metrics_are_those_of_other_packages(prediction) -> None:
    found = measure(prediction, TARGET)
    scaled = (TARGET - TARGET.min()) / (TARGET.max() - TARGET.min())
    assert found["spearman"] == pytest.approx(spearmanr(prediction, TARGET).statistic, abs=1e-12)
    assert found["mse"] == pytest.approx(mean_squared_error(TARGET, prediction), rel=1e-12)
    assert found["ndcg"] == pytest.approx(ndcg_score([scaled], [prediction]), abs=1e-12)
    assert list(found) == list(METRICS)


def test_recall_without_ties_counts_the_hits() -> None:
    best = set(np.argsort(TARGET)[-50:])
    chosen = set(np.argsort(PREDICTION)[-50:])
    assert recall_of_top(PREDICTION, TARGET, 0.1) == pytest.approx(len(best & chosen) / 50)
    assert recall_of_top(TARGET, TARGET, 0.01) == 1.0
    assert recall_of_top(-TARGET, TARGET, 0.1) == 0.0


def test_the_number_of_best_rows_is_rounded_up_but_not_by_a_rounding_error() -> None:
    target = np.arange(30.0)
    prediction = np.where(target == 27, -1.0, target)  # one of the three best is lost
    assert recall_of_top(prediction, target, 0.1) == pytest.approx(2 / 3)
    assert recall_of_top(prediction, target, 0.01) == 1.0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.sampled_from([0.2, 0.4, 0.6]),
)
def test_tied_rows_count_as_on_average_over_their_orders(prediction, target, share) -> None:
    k = math.ceil(5 * share)

    def tops(values):
        """The top k for every way to order the rows that are equal."""
        found = []
        for order in permutations(range(5)):
            found.append(set(sorted(order, key=lambda row: -values[row])[:k]))
        return found

    expected = np.mean([len(a & b) / k for a in tops(target) for b in tops(prediction)])
    assert recall_of_top(np.array(prediction, float), np.array(target, float), share) == pytest.approx(expected)


def test_metrics_do_not_depend_on_the_order_of_the_rows() -> None:
    order = RANDOM.permutation(500)
    assert measure(ROUGH[order], TARGET[order]) == pytest.approx(measure(ROUGH, TARGET), rel=1e-12)


def test_ndcg_of_the_best_and_the_worst_order() -> None:
    assert ndcg(TARGET, TARGET) == pytest.approx(1.0)
    assert ndcg(-TARGET, TARGET) < ndcg(np.zeros(500), TARGET) < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_give_no_number(bad) -> None:
    prediction = PREDICTION.copy()
    prediction[7] = bad
    with pytest.raises(UnusablePredictions, match="1 of 500 test predictions are not finite"):
        measure(prediction, TARGET)


def test_what_cannot_be_ranked_gives_no_number() -> None:
    with pytest.raises(UnusablePredictions, match="all 500 test predictions are the same"):
        measure(np.zeros(500), TARGET)
    with pytest.raises(UnusablePredictions, match="test targets are all the same"):
        measure(PREDICTION, np.ones(500))


def test_the_interval_is_that_of_the_mean_over_seeds() -> None:
    values = [0.41, 0.44, 0.39, 0.47, 0.42]
    found = spread(values)
    low, high = student.interval(0.95, 4, loc=np.mean(values), scale=sem(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_seeds_that_agree_have_no_spread_and_one_seed_has_none_to_show() -> None:
    value = 0.1 + 0.2
    same = spread([value] * 5)
    assert (same.mean, same.std, same.low, same.high) == (value, None, None, None), (
        "0.0000 would say more than is known"
    )
    rounded = spread([value, value * (1 + 1e-12), value * (1 - 1e-12)])
    assert (rounded.mean, rounded.std) == (value, None), "an exact model adds its rows up in another order"
    assert spread([-value, -value * (1 + 1e-12)]).std is None
    assert spread([value, value + 1e-5]).std is not None
    one = spread([value])
    assert (one.mean, one.std, one.low, one.high) == (value, None, None, None)


def test_the_interval_covers_the_mean_of_all_seeds_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).normal(0.5, 0.05, size=(2000, 5))
    found = [spread(list(row)) for row in draws]
    covered = np.mean([one.low <= 0.5 <= one.high for one in found])
    assert 0.93 < covered < 0.97


def test_every_metric_has_its_spread() -> None:
    found = spreads([measure(PREDICTION, TARGET), measure(ROUGH, TARGET)])
    assert list(found) == ["spearman", "mse", "ndcg", "recall_top_1", "recall_top_10"]


def test_no_interval_reaches_where_its_metric_cannot() -> None:
    far = [measure(TARGET, TARGET), measure(-TARGET, TARGET)]
    found = spreads(far)
    assert (found["spearman"].low, found["spearman"].high) == (-1.0, 1.0)
    assert found["mse"].low == 0.0
    assert found["mse"].high > 10 * found["mse"].mean
    assert (found["recall_top_10"].low, found["recall_top_10"].high) == (0.0, 1.0)
    assert spread([1.0, 9.0]).low < 0, "of a metric without bounds it is symmetric"


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, pytest.param(1000, marks=pytest.mark.system)])
def test_intervals_over_test_sequences_cover_what_other_test_sequences_give(n: int) -> None:
    """Of a model whose errors are as large as its signal, in 150 test sets of n sequences drawn from many."""
    draw = np.random.default_rng(0)
    target = draw.normal(size=100_000)
    prediction = target + draw.normal(size=100_000)
    others = [draw.integers(0, len(target), n) for _ in range(300)]
    means = {name: np.mean([measure(prediction[rows], target[rows])[name] for rows in others]) for name in METRICS}
    n_covered = dict.fromkeys(METRICS, 0)
    for rows in others[:150]:
        for name, found in over_sequences(prediction[None, rows], target[rows]).items():
            n_covered[name] += found.low <= means[name] <= found.high
    assert min(n_covered.values()) >= 130, n_covered
    assert n_covered["spearman"] <= 149, "and says no less than it knows"


def test_intervals_over_test_sequences_are_of_the_mean_over_seeds_and_end_where_the_metric_does() -> None:
    draw = np.random.default_rng(3)
    rows = np.array([TARGET + draw.normal(size=len(TARGET)) for _ in range(3)])
    found, per_seed = over_sequences(rows, TARGET), [measure(row, TARGET) for row in rows]
    for name in METRICS:
        mean = float(np.mean([one[name] for one in per_seed]))
        assert found[name].low < mean < found[name].high, name
    one = over_sequences(rows[:1], TARGET)["spearman"]
    fixed = interval(rows[0], TARGET)
    assert (one.low, one.high) == pytest.approx((fixed.low, fixed.high)), "of one seed it is that of a fixed model"
    for name, most in (("spearman", 1.0), ("ndcg", 1.0), ("recall_top_1", 1.0), ("recall_top_10", 1.0)):
        perfect = over_sequences(TARGET[None], TARGET)[name]
        assert perfect.high <= most
        assert perfect.low < 1 or name == "ndcg"
    assert over_sequences(TARGET[None], TARGET)["mse"].low == 0.0
    # A top of few rows that was missed says little: never an interval of no width.
    missed = over_sequences(-TARGET[None], TARGET)["recall_top_1"]
    assert missed.low == 0.0 < 0.2 < missed.high
