"""Made-up assays with a known truth: targets, and predictions of configurations whose true Spearman is known."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

Floats = NDArray[np.float64]
_N_FOR_TRUTH = 100_000


def _normal(latent: Floats, random: np.random.Generator) -> Floats:
    return latent


def _fitness(latent: Floats, random: np.random.Generator) -> Floats:
    """Most variants are dead and differ by the noise of the assay alone; the few that live differ widely."""
    return np.exp(1.5 * np.maximum(latent - 0.5, 0)) - 1 + 0.05 * random.standard_normal(latent.shape)


def _tied(latent: Floats, random: np.random.Generator) -> Floats:
    """Half of the variants are exactly 0."""
    return np.maximum(np.exp(latent) - 1, 0)


TARGETS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "normal": _normal,
    "fitness": _fitness,
    "tied": _tied,
}


def draw(
    kind: str, strengths: Floats, n: int, random: np.random.Generator, *, shared: float = 0.0
) -> tuple[Floats, Floats]:
    """Predictions (K, n) and a target (n,) of n random variants.

    Args:
        kind: of `TARGETS`.
        strengths: (K,) correlation of each configuration's predictions with the latent fitness.
        n: variants.
        random: where they come from.
        shared: how much of the configurations' errors they have in common.
    """
    latent = random.standard_normal(n)
    errors = math.sqrt(shared) * random.standard_normal(n)
    errors = errors + math.sqrt(1 - shared) * random.standard_normal((len(strengths), n))
    predictions = strengths[:, None] * latent + np.sqrt(1 - strengths[:, None] ** 2) * errors
    return predictions, TARGETS[kind](latent, random)


def true_spearman(kind: str, strengths: Floats) -> Floats:
    """The Spearman (K,) of configurations in the whole population."""
    latent, grade = _grades(kind)
    # The grade that is expected of a prediction whose latent fitness is known; grades of predictions are uniform.
    expected = np.stack([ndtr(s * latent / math.sqrt(2 - s**2)) - 0.5 for s in strengths])
    found: Floats = expected @ grade / len(grade) / (grade.std() / math.sqrt(12))
    return found


@cache
def _grades(kind: str) -> tuple[Floats, Floats]:
    """Latent fitness (N,) and the grades of the targets, centred, in a very large sample."""
    latent = ndtri((np.arange(_N_FOR_TRUTH) + 0.5) / _N_FOR_TRUTH)
    grade = rankdata(TARGETS[kind](latent, np.random.default_rng(1))) / _N_FOR_TRUTH
    return latent, grade - grade.mean()


def spearmans(predictions: Floats, target: Floats) -> Floats:
    """Spearman (K,) of predictions (K, n)."""
    ranks, own = rankdata(predictions, axis=1), rankdata(target)
    ranks, own = ranks - ranks.mean(axis=1, keepdims=True), own - own.mean()
    found: Floats = ranks @ own / np.sqrt((ranks**2).sum(axis=1) * (own @ own))
    return found
