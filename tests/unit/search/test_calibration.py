"""Intervals of predictions, and the chance to be among the best."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from datasets.common.errors import UserError
from search.config.type_checks import build
from search.stats.calibration import MOST_GROUPS, MOST_SCORES, Calibration, calibrate
from search.stats.top_chance import N_ATOMS, top_chance

N_FOLDS = 5


def calibrated(n=60, *, seed=0, **given):
    """Of n rows in five folds, and the random numbers that it was made with."""
    random = np.random.default_rng(seed)
    prediction, target = random.normal(size=(2, n)).astype(np.float32)
    fold = random.permutation(n) % N_FOLDS
    found = calibrate(prediction, target, validated="validated on random rows", **{"fold": fold, **given})
    return found, np.abs(target.astype(np.float64) - prediction), fold


@pytest.mark.parametrize("level", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("spread", [0, 0.1, 3])
def test_ends_are_those_of_cv_plus(level, spread):
    found, residual, fold = calibrated()
    members = spread * np.random.default_rng(1).normal(size=(N_FOLDS, 40))
    got = found(members, None, level)
    k = math.ceil(level * (len(residual) + 1))
    for x in range(40):  # the definition, row by row (Barber et al. 2021, section 3)
        highs = sorted(members[fold[i], x] + residual[i] for i in range(len(residual)))
        lows = sorted((members[fold[i], x] - residual[i] for i in range(len(residual))), reverse=True)
        precision = np.ptp(members[:, x]) / 2**14 + 1e-4 * residual.max()
        assert highs[k - 1] - 1e-9 <= got.high[x] <= highs[k - 1] + precision
        assert lows[k - 1] - precision <= got.low[x] <= lows[k - 1] + 1e-9


def test_one_group_is_split_conformal():
    found, residual, _ = calibrated(fold=None)
    prediction = np.linspace(-1, 1, 7)
    got = found(np.stack([prediction - 1, prediction + 1]), None, 0.8)  # their mean counts
    half = np.sort(residual)[math.ceil(0.8 * 61) - 1]
    assert got.high == pytest.approx(prediction + half, rel=1e-3)
    assert got.low == pytest.approx(prediction - half, rel=1e-3)
    assert got.std == pytest.approx(np.full(7, math.sqrt(np.mean(residual**2))), rel=1e-3)


def test_coverage_of_exchangeable_rows_is_the_level():
    random = np.random.default_rng(3)
    n_covered, n_drawn, n_repeats = 0, 20, 400
    for _ in range(n_repeats):
        noise = random.standard_t(3, size=59 + n_drawn)
        found = calibrate(np.zeros(59), noise[:59], validated="")
        got = found(np.zeros((1, n_drawn)), None, 0.9)
        n_covered += int(((got.low <= noise[59:]) & (noise[59:] <= got.high)).sum())
    # Each repeat's coverage is Beta(54, 6), the 54th of 59 scores; with 20 draws of each that is beta-binomial.
    share, variance = 54 / 60, 0.9 * 0.1 / 61
    error = math.sqrt((variance + (0.09 - variance) / n_drawn) / n_repeats)
    assert abs(n_covered / (n_repeats * n_drawn) - share) < 4 * error


def test_many_scores_are_thinned_and_never_narrower():
    whole, residual, _ = calibrated(20_000, fold=None)
    assert whole.n == 20_000
    assert len(whole.scores[0]) == MOST_SCORES
    for level in (0.1, 0.9, 0.999):
        high = whole(np.zeros((1, 1)), None, level).high[0]
        exact = np.sort(residual)[math.ceil(level * 20_001) - 1]
        beyond = np.sort(residual)[min(19_999, math.ceil(level * 20_001) - 1 + 20)]
        assert exact <= high <= beyond * (1 + 1e-3)


@pytest.mark.parametrize(
    ("n", "level", "is_enough"), [(9, 0.9, True), (8, 0.9, False), (2, 0.6, True), (98, 0.99, False)]
)
def test_too_few_rows_have_no_interval(n, level, is_enough):
    found, _, _ = calibrated(n, fold=None)
    got = found(np.zeros((1, 3)), None, level)
    assert found.is_enough(level) == is_enough
    assert np.isfinite(got.high).all() == np.isfinite(got.low).all() == is_enough
    assert np.isfinite(got.std).all()


def test_one_row_or_one_that_is_not_finite_calibrates_nothing():
    assert calibrate(np.zeros(1), np.ones(1), validated="") is None
    assert calibrate(np.array([0.0, math.nan]), np.ones(2), validated="") is None


def test_own_deviations_scale_where_they_tell_large_errors():
    random = np.random.default_rng(5)
    deviation = random.choice([0.1, 2.0], size=500)
    target = deviation * random.normal(size=500)
    telling = calibrate(np.zeros(500), target, validated="", deviation=deviation)
    assert telling.asks_deviation
    got = telling(np.zeros((2, 2)), np.array([[0.1, 2.0]] * 2), 0.9)
    assert got.high[1] > 5 * got.high[0]
    assert got.std[1] > 5 * got.std[0]
    fresh = random.choice([0.1, 2.0], size=2000)
    found = telling(np.zeros((1, 2000)), fresh[None], 0.9)
    assert 0.86 < (np.abs(fresh * random.normal(size=2000)) <= found.high).mean() < 0.94
    # Of another size than the errors, and of no relation to them.
    useless = calibrate(np.zeros(500), target, validated="", deviation=random.permutation(deviation))
    assert not useless.asks_deviation
    assert useless.noise == 0


def test_folds_become_one_group_where_other_models_predict():
    found, residual, _ = calibrated()
    pooled = found.pooled()
    assert found.is_by_fold
    assert not pooled.is_by_fold
    assert pooled.n == found.n
    half = np.sort(residual)[math.ceil(0.9 * 61) - 1]
    assert pooled(np.zeros((3, 1)), None, 0.9).high[0] == pytest.approx(half, rel=1e-3)


def test_groups_of_many_rows_become_one_without_a_number_for_each_row():
    scores = np.sort(np.random.default_rng(0).random((MOST_GROUPS, 20))).tolist()
    few, many = (
        Calibration(validated="", scale="constant", noise=0, mean_square=1, n_rows=[n] * MOST_GROUPS, scores=scores)
        for n in (1000, 10**9)
    )
    pooled = few.pooled().scores[0]
    assert pooled == pytest.approx(np.repeat(np.sort(np.concatenate(scores)), 50)[49::50], rel=1e-3)
    assert many.pooled().scores[0] == pooled  # where 400 GB would be asked for
    assert many.pooled().n == MOST_GROUPS * 10**9


def test_survives_as_plain_values():
    found, _, _ = calibrated()
    assert build(Calibration, asdict(found), "calibration") == found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", [[3.0, 1.0]]),
        ("scores", [[1.0] * 70]),
        ("scores", []),
        ("n_rows", []),
        ("scale", "spread"),
        ("noise", -1.0),
        ("noise", 1e300),
        ("mean_square", 1e300),
        ("scores", [[1e300]]),
        ("n_rows", [2**62]),
        ("mean_square", "much"),
    ],
)
def test_what_no_calibration_is_is_refused(key, value):
    good = asdict(calibrated(fold=None)[0])
    with pytest.raises(UserError, match=key):
        build(Calibration, {**good, key: value}, "calibration")


@pytest.mark.parametrize(("n", "k", "size"), [(5, 1, 1.0), (20, 5, 1.0), (20, 5, 0.01), (3000, 10, 0.5)])
def test_chances_are_those_of_draws(n, k, size):
    random = np.random.default_rng(n + k)
    mean = random.normal(size=n).astype(np.float32)
    deviation = size * random.uniform(0.5, 1.5, n)
    atoms = np.sort(np.abs(random.normal(size=N_ATOMS)))
    atoms /= math.sqrt((atoms**2).mean())
    found = top_chance(mean, deviation, atoms, k)
    errors = np.concatenate([-atoms[::-1], atoms])
    n_in, n_draws = np.zeros(n), 1000
    for _ in range(n_draws):
        drawn = np.interp(random.random(n), (np.arange(2 * N_ATOMS) + 0.5) / (2 * N_ATOMS), errors)
        n_in[np.argsort(-(mean + deviation * drawn))[:k]] += 1
    assert np.abs(found - n_in / n_draws).max() < 0.07
    assert found.sum() == pytest.approx(k, rel=0.08)


@pytest.mark.parametrize("n", [300, 3000])
def test_an_outlier_changes_no_chance_of_others(n):
    random = np.random.default_rng(n)
    mean, deviation = random.normal(size=n), random.uniform(0.1, 0.4, n)
    atoms = np.linspace(0.1, 1.7, N_ATOMS)
    alone = top_chance(mean, deviation, atoms, 4)
    for outlier, k in ((2867, 5), (-2867, 4), (1e9, 5)):
        found = top_chance(np.append(mean, outlier), np.append(deviation, 0.3), atoms, k)
        assert found[:-1] == pytest.approx(alone, abs=1e-3)
        assert found[-1] == pytest.approx(k - 4)
    vague = top_chance(np.append(mean, 0), np.append(deviation, 1e6), atoms, 4)
    assert np.abs(vague[:-1] - alone).max() < 0.2  # it is above all others in half of the cases
    assert vague[-1] == pytest.approx(0.5, abs=0.01)


def test_nobody_is_uncertain_without_errors():
    found = top_chance(np.array([3.0, 1.0, 2.0, 0.0]), np.zeros(4), np.linspace(0.1, 2, N_ATOMS), 2)
    assert found == pytest.approx([1, 0, 1, 0], abs=0.1)
    alike = top_chance(np.array([3.0, 1.0, 1.0, 1.0]), np.zeros(4), np.linspace(0.1, 2, N_ATOMS), 2)
    assert alike == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3], abs=0.1)
    calibration, _, _ = calibrated()
    assert replace(calibration, scores=[[0.0]] * 5).atoms(N_ATOMS).tolist() == [0.0] * 60
