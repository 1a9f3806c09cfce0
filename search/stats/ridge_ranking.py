"""How well a ridge regression on features ranks held-out rows: what the features are worth, whatever the model."""

import numpy as np
from numpy.typing import NDArray

from search.stats.metrics import spearman

_PENALTIES = 10.0 ** np.arange(-5, 4)  # on standardised features, divided by their number
_N_PARTS = 5
_N_DIVISIONS = 5


def ridge_spearman(features: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Spearman correlation of `target` (n,) with a ridge's predictions from `features` (n, D), each row held out once.

    That of the best of nine penalties, on average over five divisions into five parts. Equal rows give equal
    divisions, so that two sets of features of the same rows can be compared. NaN where nothing can be ranked.
    """
    n = len(target)
    values = np.empty((_N_DIVISIONS, len(_PENALTIES)))
    for division in range(_N_DIVISIONS):
        part = np.random.default_rng(division).permutation(n) % _N_PARTS
        predicted = np.empty((len(_PENALTIES), n))
        for number in range(_N_PARTS):
            predicted[:, part == number] = _predicted(features, target, part == number)
        values[division] = [spearman(one, target) for one in predicted]
    return float(values.mean(0).max())


def _predicted(
    features: NDArray[np.float64], target: NDArray[np.float64], is_held_out: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """What is predicted of the held-out rows, for each penalty; one eigendecomposition serves all."""
    train = features[~is_held_out]
    scale = train.std(0)
    scale[scale == 0] = 1.0
    rows, others = (train - train.mean(0)) / scale, (features[is_held_out] - train.mean(0)) / scale
    eigenvalues, vectors = np.linalg.eigh(rows @ rows.T / rows.shape[1])
    mean = target[~is_held_out].mean()
    along = vectors.T @ (target[~is_held_out] - mean)
    projected = others @ rows.T / rows.shape[1] @ vectors
    shrunk = along / (eigenvalues.clip(min=0.0) + _PENALTIES[:, None])
    predictions: NDArray[np.float64] = shrunk @ projected.T + mean
    return predictions
