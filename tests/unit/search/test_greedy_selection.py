"""The greedy selection of an ensemble: what it gains, what it cannot gain by luck, and that it repeats itself."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from search.stats.greedy_selection import Selection, select, standardized

Values = NDArray[np.float64]
N = 150


def complementary(n: int = N, seed: int = 0) -> tuple[Values, Values]:
    """Predictions (6, n) that see one half each of what makes the target (n,), the best first."""
    random = np.random.default_rng(seed)
    halves = random.normal(size=(2, n))
    target = halves.sum(axis=0)
    predictions = np.stack([halves[k % 2] + 0.6 * random.normal(size=n) for k in range(6)])
    values = [spearmanr(one, target).statistic for one in predictions]
    return predictions[np.argsort(values)[::-1]], target


def spearman(prediction: Values, target: Values) -> float:
    return float(spearmanr(prediction, target).statistic)


@pytest.mark.parametrize("scale", ["standardized", "ranks"])
def test_complementary_members_beat_each_of_them_on_sequences_that_were_held_out(scale: str) -> None:
    predictions, target = complementary(2 * N)
    found = select(predictions[:, :N], target[:N], most=4, seed=1, scale=scale)
    held_out = standardized(predictions, scale)[:, N:]
    together = spearman(found.weights @ held_out, target[N:])
    alone = [spearman(one, target[N:]) for one in held_out]
    assert together > max(alone) + 0.1
    assert 2 <= (found.weights > 0).sum() <= 4
    assert found.weights.sum() == pytest.approx(1)
    assert abs(found.value - together) < 0.1


def test_the_same_call_gives_the_same_answer_and_another_seed_other_parts() -> None:
    predictions, target = complementary()
    one, again, other = (select(predictions, target, most=4, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.weights, again.weights)
    np.testing.assert_array_equal(one.prediction, again.prediction)
    assert not np.array_equal(one.prediction, other.prediction)


def test_the_value_is_not_raised_by_choosing_among_noise() -> None:
    """Of fifty configurations that know nothing the best alone looks good; out of bag nothing is left of it."""
    values, best = [], []
    for seed in range(8):
        random = np.random.default_rng(seed)
        predictions, target = random.normal(size=(50, 60)), random.normal(size=60)
        values.append(select(predictions, target, most=8, seed=seed, n_repeats=4).value)
        best.append(max(spearman(one, target) for one in predictions))
    assert np.mean(best) > 0.2
    assert abs(np.mean(values)) < 0.12


def test_out_of_bag_predictions_do_not_depend_on_the_targets_of_their_own_part() -> None:
    """A sequence whose target is turned round changes the selections that see it, and not what predicts it."""
    predictions, target = complementary(60)
    changed = target.copy()
    changed[7] = target.min() - 5
    one, other = (select(predictions, own, most=2, seed=5) for own in (target, changed))
    assert one.prediction[7] == other.prediction[7]


def test_sequences_that_are_the_same_are_left_out_together() -> None:
    """Each sequence twice: apart, one copy's target would choose for the other."""
    random = np.random.default_rng(2)
    predictions, target = random.normal(size=(50, 40)), random.normal(size=40)
    twice, targets, same = np.tile(predictions, 2), np.tile(target, 2), np.tile(np.arange(40), 2)
    together = select(twice, targets, most=4, seed=0, same=same)
    apart = select(twice, targets, most=4, seed=0)
    assert together.value < apart.value - 0.1
    np.testing.assert_allclose(together.prediction[:40], together.prediction[40:])


def test_a_single_candidate_is_the_ensemble() -> None:
    predictions, target = complementary()
    found = select(predictions[:1], target, most=8, seed=0)
    assert found.weights.tolist() == [1.0]
    assert found.value == pytest.approx(spearman(predictions[0], target))


def test_of_equal_candidates_the_first_is_taken() -> None:
    predictions, target = complementary()
    found = select(np.stack([predictions[0]] * 3), target, most=8, seed=0, equal_share=0)
    assert found.weights.tolist() == [1.0, 0.0, 0.0]


def test_ties_within_predictions_share_their_rank() -> None:
    predictions, target = complementary()
    coarse = np.round(predictions)
    found = select(coarse[:1], target, most=1, seed=0)
    assert found.value == pytest.approx(spearman(coarse[0], target))


def test_constant_and_infinite_predictions_are_never_selected() -> None:
    predictions, target = complementary()
    bad = np.stack([np.full(N, 3.0), np.where(np.arange(N) == 2, np.inf, target)])
    found = select(np.concatenate([bad, predictions]), target, most=8, seed=0)
    assert found.weights[:2].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="constant"):
        select(bad, target, most=8, seed=0)
    with pytest.raises(ValueError, match="constant"):
        select(predictions, np.ones(N), most=8, seed=0)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_members_than_asked_for(most: int) -> None:
    random = np.random.default_rng(1)
    parts = random.normal(size=(6, N))
    found = select(parts + 0.3 * random.normal(size=(6, N)), parts.sum(axis=0), most=most, seed=0)
    assert (found.weights > 0).sum() == most


def test_when_it_stops_is_an_argument() -> None:
    predictions, target = complementary()
    greedy, alone = (select(predictions, target, most=8, seed=0, least_gain=gain) for gain in (0.0, 2.0))
    to_the_end = select(predictions, target, most=8, seed=0, least_gain=-np.inf)
    assert greedy.value > alone.value
    assert to_the_end.value > alone.value
    assert greedy.weights.max() < alone.weights.max(), "of each selection the best alone"


def test_too_few_sequences_are_not_divided() -> None:
    found = select(np.array([[1.0, 2, 3, 4], [2.0, 1, 3, 4]]), np.array([1.0, 2, 3, 4]), most=2, seed=0)
    assert found.weights.tolist() == [1.0, 0.0]


def test_of_many_sequences_the_same_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.stats.greedy_selection.MOST_SEQUENCES", 100)
    predictions, target = complementary()
    found: list[Selection] = [select(predictions, target, most=3, seed=0) for _ in range(2)]
    assert np.isnan(found[0].prediction).sum() == N - 100
    np.testing.assert_array_equal(found[0].prediction, found[1].prediction)
    known = np.isfinite(found[0].prediction)
    assert found[0].value == pytest.approx(spearman(found[0].prediction[known], target[known]))


def test_standardized_values_have_mean_0_and_deviation_1() -> None:
    predictions, _ = complementary()
    for scale, own in (("standardized", predictions), ("ranks", rankdata(predictions, axis=1))):
        found = standardized(predictions, scale)
        np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(found.std(axis=1), 1)
        assert spearman(found[0], own[0]) == pytest.approx(1)
