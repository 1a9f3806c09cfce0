"""How well a ridge on features ranks: what it is by scikit-learn, and what noise in the features takes away."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from search.stats import ridge_ranking
from search.stats.ridge_ranking import ridge_spearman


def made(n: int = 60, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    features = generator.normal(size=(n, width)) * np.logspace(0, -3, width)
    return features, features @ np.logspace(0, 3, width) + generator.normal(size=n) * 0.3


def test_it_is_the_ridge_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target = made()
    monkeypatch.setattr(ridge_ranking, "_PENALTIES", np.array([0.1]))
    values = []
    for division in range(5):
        part, predicted = np.random.default_rng(division).permutation(60) % 5, np.empty(60)
        for number in range(5):
            held_out = part == number
            scaler = StandardScaler().fit(features[~held_out])
            ridge = Ridge(alpha=0.1 * 8).fit(scaler.transform(features[~held_out]), target[~held_out])
            predicted[held_out] = ridge.predict(scaler.transform(features[held_out]))
        values.append(spearmanr(predicted, target).statistic)
    assert ridge_spearman(features, target) == pytest.approx(np.mean(values), abs=1e-6)


def test_noise_in_directions_of_small_variance_counts() -> None:
    """Which a difference relative to the whole spread of the features does not show."""
    features, target = made(200)
    noise = np.random.default_rng(4).normal(size=features.shape) * 0.01
    assert np.linalg.norm(noise) / np.linalg.norm(features - features.mean(0)) < 0.05
    assert ridge_spearman(features, target) > ridge_spearman(features + noise, target) + 0.02


def test_constant_targets_cannot_be_ranked() -> None:
    features, _ = made()
    assert math.isnan(ridge_spearman(features, np.ones(60)))
    features[:, 0] = 1.0  # a constant column is no matter
    assert ridge_spearman(features, made()[1]) > 0.5
