"""Which of many configurations to average, and with what weights: greedy forward selection with replacement.

Caruana and others (2004, "Ensemble selection from libraries of models"): begin with the best, then add again and again
whichever raises the Spearman of the average most, one that is in already too. So that the selection does not follow the
noise of the validation sequences, it is repeated on parts of them (bagged), and the weights are averaged. Half of the
weight is the selection's, the other half is divided equally among the best of each part: with few sequences the
selection trusts one or two configurations too much.

The value of what was selected is out of bag: each sequence is predicted by the selections that did not see its target,
so that no choice raises the value by luck. Random parts are drawn from a seed: the same call gives the same answer.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from search.stats.intervals import Floats
from search.stats.sums import weighted_sum

Scale = Literal["standardized", "ranks"]
N_REPEATS = 10
N_PARTS = 3
"""Each selection leaves one part of the sequences out."""
N_ROUNDS = 24
LEAST_GAIN = 1e-4
EQUAL_SHARE = 0.5
"""Of the weight, what the best configurations have in equal parts; see docs/measurements.md."""
MOST_SEQUENCES = 2000
"""Of more a random part, always the same of a seed: to select from all of them would take minutes."""
_MIN_SEQUENCES = 2 * N_PARTS


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Weights (K,) of the configurations, none negative, which add up to 1, and what they are worth.

    prediction: (n,) out of bag, on the scale that was averaged; NaN where the sequence took no part. value: its
    Spearman with the target.
    """

    weights: Floats
    prediction: Floats
    value: float


def select(
    predictions: Floats,
    target: Floats,
    *,
    most: int,
    seed: int,
    scale: Scale = "standardized",
    same: NDArray[np.int64] | None = None,
    n_repeats: int = N_REPEATS,
    n_rounds: int = N_ROUNDS,
    least_gain: float = LEAST_GAIN,
    equal_share: float = EQUAL_SHARE,
) -> Selection:
    """Select at most `most` of K configurations.

    Args:
        predictions: (K, n) out of fold, of the same n sequences, the best configuration first: among equals the first
            is taken. Constant ones are never selected.
        target: (n,), not constant.
        most: How many different configurations are selected.
        seed: Of the parts.
        scale: What is averaged: predictions with mean 0 and deviation 1, or these of their ranks.
        same: (n,), equal for sequences that are to be left out together; None: all are different.
        n_repeats: How often the sequences are divided; each division gives as many selections as it has parts.
        n_rounds: How often a configuration is added at most.
        least_gain: A selection ends when nothing raises its Spearman by as much. With minus infinity it goes on to the
            last round and keeps the best of what it has been.
        equal_share: Of the weight, what the `most` best have in equal parts, from 0, the selection alone, to 1.

    Raises:
        ValueError: All predictions are constant, or the target is.
    """
    varies = np.isfinite(predictions).all(axis=1) & (np.ptp(predictions, axis=1) > 0)
    if not varies.any() or np.ptp(target) == 0:
        raise ValueError("all predictions are constant, or the target is")
    values = standardized(predictions[varies], scale)
    rows = _some(len(target), seed)
    found, out_of_bag = _bagged(
        values[:, rows],
        rankdata(target[rows]),
        np.arange(len(rows)) if same is None else np.unique(same[rows], return_inverse=True)[1],
        most=most,
        random=np.random.default_rng(seed),
        n_repeats=n_repeats,
        n_rounds=n_rounds,
        least_gain=least_gain,
        equal_share=equal_share,
    )
    weights, prediction = np.zeros(len(predictions)), np.full(len(target), np.nan)
    weights[varies] = found
    prediction[rows] = out_of_bag
    return Selection(weights=weights, prediction=prediction, value=_spearman(out_of_bag, rankdata(target[rows])))


def standardized(predictions: Floats, scale: Scale = "standardized") -> Floats:
    """The predictions (K, n), or their ranks, with mean 0 and deviation 1; none of them is constant."""
    values: Floats = rankdata(predictions, axis=1) if scale == "ranks" else predictions.astype(np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    scaled: Floats = values / values.std(axis=1, keepdims=True)
    return scaled


def _bagged(
    values: Floats,
    target: Floats,
    same: NDArray[np.int64],
    *,
    most: int,
    random: np.random.Generator,
    n_repeats: int,
    n_rounds: int,
    least_gain: float,
    equal_share: float,
) -> tuple[Floats, Floats]:
    """Weights (K,) of all selections together, and the out-of-bag prediction (n,) of values (K, n).

    `target` (n,) holds ranks. That prediction is made as the weights are, by the mean of those selections that left the
    sequence out.
    """
    n_units = int(same.max()) + 1
    if len(values) == 1 or n_units < _MIN_SEQUENCES:  # too few to leave any out: the best alone
        alone = np.zeros(len(values))
        alone[_best(values, target)] = 1.0
        return alone, weighted_sum(alone, values)
    total, prediction = np.zeros(len(values)), np.empty(len(target))
    left_out: list[tuple[NDArray[np.int64], list[Floats]]] = []
    for _ in range(n_repeats):
        part = random.permutation(n_units) % N_PARTS
        own = []
        for number in range(N_PARTS):
            seen = part[same] != number
            some = values[:, seen], target[seen]
            chosen = _greedy(*some, most=most, n_rounds=n_rounds, least_gain=least_gain)
            own.append((1 - equal_share) * chosen + equal_share * _equal(*some, most=most))
            total += own[-1]
        left_out.append((part[same], own))
    # Sequences that the same selections left out are predicted together.
    which = np.stack([part for part, _ in left_out])  # (n_repeats, n)
    for key in np.unique(which, axis=1).T:
        rows = (which == key[:, None]).all(axis=0)
        weights = sum((own[number] for (_, own), number in zip(left_out, key, strict=True)), np.zeros(len(values)))
        prediction[rows] = weighted_sum(_largest(weights, most), values[:, rows])
    return _largest(total, most), prediction


def _largest(weights: Floats, most: int) -> Floats:
    """The `most` largest weights, the first among equals, so that they add up to 1; the others are 0."""
    kept = np.argsort(-weights, kind="stable")[:most]
    largest = np.zeros(len(weights))
    largest[kept] = weights[kept]
    found: Floats = largest / largest.sum()
    return found


def _greedy(values: Floats, target: Floats, *, most: int, n_rounds: int, least_gain: float) -> Floats:
    """One selection: how often each of values (K, n) is in the best average, as weights (K,)."""
    counts = np.zeros(len(values), dtype=np.int64)
    first = _best(values, target)
    counts[first] = 1
    total, value = values[first].copy(), _spearman(values[first], target)
    best_counts, best = counts.copy(), value
    for _ in range(n_rounds - 1):
        may = np.flatnonzero(counts) if (counts > 0).sum() >= most else np.arange(len(values))
        found = _spearmans(total + values[may], target)
        added = int(np.argmax(found))
        if found[added] < value + least_gain:
            break
        counts[may[added]] += 1
        total += values[may[added]]
        value = float(found[added])
        if value > best:
            best_counts, best = counts.copy(), value
    weights: Floats = best_counts / best_counts.sum()
    return weights


def _equal(values: Floats, target: Floats, *, most: int) -> Floats:
    """The `most` best of values (K, n), the first among equals, with equal weights (K,); constant ones have none."""
    found = _spearmans(values, target)
    best = [one for one in np.argsort(-found, kind="stable")[:most] if found[one] > -1]
    weights = np.zeros(len(values))
    weights[best or [0]] = 1 / max(1, len(best))
    return weights


def _best(values: Floats, target: Floats) -> int:
    return int(np.argmax(_spearmans(values, target)))


def _spearman(values: Floats, target: Floats) -> float:
    return float(_spearmans(values[None], target)[0])


def _spearmans(values: Floats, target: Floats) -> Floats:
    """Spearman (K,) of values (K, n) with the ranks of a target (n,); -1 where values are constant."""
    ranks = _ranks(values)
    ranks -= ranks.mean(axis=1, keepdims=True)
    centred = target - target.mean()
    norms = np.sqrt((ranks**2).sum(axis=1) * (centred**2).sum())
    found: Floats = np.divide(ranks @ centred, norms, out=np.full(len(values), -1.0), where=norms > 0)
    # The last bits, which depend on the order of sums, decide nothing.
    return np.round(found, 12)


def _ranks(values: Floats) -> Floats:
    """Mean ranks (K, n); where there are no ties, by one sort."""
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    if (np.diff(ordered, axis=1) == 0).any():
        tied: Floats = rankdata(values, axis=1)
        return tied
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, values.shape[1] + 1)[None], axis=1)
    return ranks


def _some(n: int, seed: int) -> NDArray[np.int64]:
    if n <= MOST_SEQUENCES:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST_SEQUENCES])
