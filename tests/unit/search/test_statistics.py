"""Intervals of Spearman against the jackknife, their limits, and populations whose truth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from search.stats.intervals import ConfidenceInterval, influence, interval, interval_from_size
from search.stats.selection_bias import ComparedTrials
from tests.helpers.populations import draw, spearmans, true_spearman

Floats = NDArray[np.float64]


def candidates(predictions: Floats, target: Floats, **more: int) -> ComparedTrials:
    values = spearmans(predictions, target)
    return ComparedTrials(values=values, predictions=predictions, target=target, **{"n": len(target), **more})


@pytest.mark.parametrize("decimals", [8, 0], ids=["distinct", "many ties"])
def test_influence_is_what_leaving_a_sequence_out_changes(decimals: int) -> None:
    random = np.random.default_rng(0)
    target = random.standard_normal(40).round(decimals)
    predictions = (target + random.standard_normal((2, 40))).round(decimals)
    found = influence(predictions, target)
    assert found.mean(axis=1) == pytest.approx(0, abs=1e-12)
    for prediction, changes in zip(predictions, found, strict=True):
        without = [spearmanr(np.delete(prediction, i), np.delete(target, i)).statistic for i in range(40)]
        assert np.corrcoef(changes, -np.array(without))[0, 1] > 0.999
        jackknife = np.sqrt(39 / 40 * np.var(without) * 40)
        assert np.sqrt(np.mean(changes**2) / 40) == pytest.approx(jackknife, rel=0.06)


@pytest.mark.parametrize("kind", ["normal", "fitness", "tied"])
def test_the_interval_of_a_fixed_configuration_covers_its_true_value(kind: str) -> None:
    """As `tests/benchmarks/bench_coverage.py` does at length."""
    strengths, random = np.array([0.7]), np.random.default_rng(3)
    (truth,) = true_spearman(kind, strengths)
    found = [interval(predictions[0], target) for predictions, target in draws(kind, strengths, 28, 400, random)]
    covered = np.mean([here.low <= truth <= here.high for here in found])
    assert 0.92 <= covered <= 0.98
    assert 0.2 < np.mean([here.high - here.low for here in found]) < 0.8


def draws(
    kind: str, strengths: Floats, n: int, n_runs: int, random: np.random.Generator
) -> list[tuple[Floats, Floats]]:
    return [draw(kind, strengths, n, random, shared=0.5) for _ in range(n_runs)]


def test_the_pick_of_many_is_covered_its_optimism_is_what_it_is_and_the_truly_best_is_among_its_peers() -> None:
    strengths = np.random.default_rng(1).normal(0.6, 0.02, 100)
    truths = true_spearman("normal", strengths)
    covered, uncovered, excess, optimism, has_best = [], [], [], [], []
    for predictions, target in draws("normal", strengths, 20, 60, np.random.default_rng(2)):
        study = candidates(predictions, target)
        truth, shown, plain = truths[study.best], study.interval(), interval(predictions[study.best], target)
        covered.append(shown.low <= truth <= shown.high)
        uncovered.append(not plain.low <= truth <= plain.high)
        excess.append(study.values[study.best] - truth)
        optimism.append(study.optimism())
    for predictions, target in draws("normal", np.array([0.6, 0.6, 0.62, 0.3]), 50, 100, np.random.default_rng(3)):
        has_best.append(candidates(predictions, target).is_indistinguishable()[2])
    assert np.mean(covered) >= 0.9
    assert np.mean(uncovered) > 0.08, "the selection was to matter"
    assert np.mean(optimism) == pytest.approx(np.mean(excess), abs=0.05)
    assert np.mean(excess) > 0.15
    assert np.mean(has_best) >= 0.9


def test_one_trial_alone_has_the_interval_of_a_fixed_configuration_and_no_optimism() -> None:
    ((predictions, target),) = draws("normal", np.array([0.7]), 60, 1, np.random.default_rng(0))
    alone, fixed = candidates(predictions, target), interval(predictions[0], target)
    assert alone.interval().high == pytest.approx(fixed.high)
    assert alone.interval().low == pytest.approx(fixed.low, abs=0.03)  # of a limited number of draws
    assert alone.optimism() == pytest.approx(0, abs=0.01)
    assert alone.is_indistinguishable().tolist() == [True]


def test_only_what_trials_do_not_share_is_paid_for() -> None:
    random = np.random.default_rng(0)
    predictions, target = draw("normal", np.full(50, 0.6), 80, random)
    same = candidates(np.repeat(predictions[:1], 50, axis=0), target)
    assert same.optimism() == pytest.approx(0, abs=0.01)
    assert same.interval().low == pytest.approx(interval(predictions[0], target).low, abs=0.03)
    assert same.is_indistinguishable().all()
    unlike = candidates(predictions, target)
    assert unlike.optimism() > 0.1
    assert unlike.interval().low < interval(predictions[unlike.best], target).low - 0.1


def test_a_clear_winner_has_no_peers_and_two_alike_are_peers() -> None:
    random = np.random.default_rng(0)
    predictions, target = draw("normal", np.array([0.95, 0.3, 0.3, 0.2]), 200, random)
    assert candidates(predictions, target).is_indistinguishable().tolist() == [True, False, False, False]
    predictions[1] = predictions[0] + 0.05 * random.standard_normal(200)
    assert candidates(predictions, target).is_indistinguishable().tolist() == [True, True, False, False]


def test_trials_that_are_not_seen_widen_the_interval_and_a_part_of_the_rows_stands_for_all() -> None:
    predictions, target = draw("normal", np.full(5, 0.6), 100, np.random.default_rng(0))
    seen, more = candidates(predictions, target).interval(), candidates(predictions, target, n_unseen=95).interval()
    assert more.low < seen.low
    assert more.high == seen.high
    whole = candidates(predictions, target, n=400).interval()
    assert whole.high - whole.low == pytest.approx((seen.high - seen.low) / 2, rel=0.15)


def test_the_same_trials_give_the_same_answer() -> None:
    predictions, target = draw("tied", np.full(7, 0.6), 30, np.random.default_rng(0))
    one, other = candidates(predictions, target), candidates(predictions, target)
    assert (one.interval(), one.optimism()) == (other.interval(), other.optimism())


def test_what_few_or_perfect_sequences_can_say() -> None:
    assert interval(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) == ConfidenceInterval(low=-1, high=1)
    three = candidates(np.array([[1.0, 2.0, 3.0]]), np.array([1.0, 2.0, 3.0]))
    assert three.interval() == ConfidenceInterval(low=-1, high=1)
    assert np.isnan(three.optimism())
    assert three.is_indistinguishable().all()
    for n in (4, 30):
        perfect = interval(np.arange(n, dtype=float), np.arange(n, dtype=float))
        assert -1 < perfect.low < 1 - 6 / (n**3 - n)
        assert perfect.high <= 1
    high, low = interval_from_size(0.5, 43), interval_from_size(0.5, 43, n_trials=100)
    assert (high.low, high.high) == pytest.approx((0.21, 0.71), abs=0.02)
    assert low.low < high.low - 0.1
    assert low.high == high.high
    assert interval_from_size(0.5, 3) == ConfidenceInterval(low=-1, high=1)


def test_an_interval_turns_round_with_the_predictions() -> None:
    predictions, target = draw("normal", np.array([0.5]), 50, np.random.default_rng(0))
    one, other = interval(predictions[0], target), interval(-predictions[0], target)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
