"""Conformal intervals: how far measurements lay from predictions of models that were not trained on them.

CV+ (Barber, Candès, Ramdas and Tibshirani 2021, "Predictive inference with the jackknife+"): a row i that fold k
validated has the score R_i = |y_i - mu_k(x_i)| / s_k(x_i), where s is 1 or made of the model's own deviation. At level
1 - a the interval of x ends at the ceil((1 - a)(n + 1))-th smallest of all mu_k(x) + R_i s_k(x), k the fold of i, and
likewise below. With one group that is split-conformal. Both hold for candidates of the kind that was validated,
whatever the model is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from models.bounds import Interval

LEVEL = 0.9
"""Of intervals of predictions, where nobody asks for another."""
MOST_SCORES = 1000
"""That are kept, of all groups together."""
_MOST_ROWS = 10**9  # that the counts of a file may name, so that their sums are exact
_LARGEST = 1e39
"""Of an error; predictions and targets are float32."""
MOST_GROUPS = 50
"""More folds than these count as one: an interval costs as much as there are groups."""
_MIN_ROWS = 2
_LEAST_SHARE = 1e-3  # of the residuals' size, which the scale of no row is below
_N_HALVINGS = 14  # each end is found to 1/16384 of how far the folds' predictions lie apart

Floats = NDArray[np.floating[Any]]
Scale = Literal["constant", "deviation"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """The ends (n,) of n intervals, infinite where none can be said, and the deviations (n,) of what is measured."""

    low: Floats
    high: Floats
    std: Floats


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What intervals are made of, at whatever level.

    validated: what kind of rows the scores are of, in words. scale: by what residuals were divided, "constant" by 1,
    "deviation" by the root of the model's own variance and the square of `noise`. n_rows: of each group. scores: of
    each group in ascending order, in the assay's unit or, scaled, in multiples; of a group with more rows than scores
    each stands for several rows, none of which has a larger one. mean_square: of the scores of all rows.
    Of several groups each is a fold, in their order; one stands for all that predict.

    Raises:
        UserError: A value is not what it can be, whoever wrote it.
    """

    validated: str
    scale: Scale
    noise: Annotated[float, Interval(ge=0, le=_LARGEST)]
    mean_square: Annotated[float, Interval(ge=0, le=_LARGEST**2)]
    n_rows: list[Annotated[int, Interval(ge=1, le=_MOST_ROWS)]]
    scores: list[list[Annotated[float, Interval(ge=0, le=_LARGEST)]]]

    def __post_init__(self) -> None:
        """Check what an experiment file may say of it."""
        n = len(self.n_rows)
        _expect(1 <= n <= MOST_GROUPS, "n_rows", n, f"1 to {MOST_GROUPS} groups")
        _expect(len(self.scores) == n, "scores", len(self.scores), f"a list for each of the {n} groups")
        for n_rows, scores in zip(self.n_rows, self.scores, strict=True):
            is_fit = 1 <= len(scores) <= min(n_rows, MOST_SCORES) and scores == sorted(scores)
            _expect(is_fit, "scores", len(scores), f"up to {min(n_rows, MOST_SCORES)} numbers in ascending order")

    @property
    def n(self) -> int:
        """How many rows there are."""
        return sum(self.n_rows)

    @property
    def asks_deviation(self) -> bool:
        """Whether the models' own deviations have to be known."""
        return self.scale == "deviation"

    @property
    def is_by_fold(self) -> bool:
        """Whether there is a group for each fold."""
        return len(self.n_rows) > 1

    def pooled(self) -> "Calibration":
        """The same as one group: for models that are not those of the folds, of which the mean counts."""
        scores, counts = self._ordered()
        return Calibration(
            validated=self.validated,
            scale=self.scale,
            noise=self.noise,
            mean_square=self.mean_square,
            n_rows=[self.n],
            scores=[_thinned(scores, counts)] if self.is_by_fold else self.scores,
        )

    def is_enough(self, level: float) -> bool:
        """Whether there are rows enough for finite intervals at this level."""
        return self._rank(level) <= self.n

    def __call__(self, members: Floats, own: Floats | None, level: float) -> Calibrated:
        """The intervals of n candidates, infinite where there are too few rows for the level.

        Args:
            members: (n_members, n), what each model predicts, those of the folds in their order.
            own: (n_members, n), the models' own deviations where `scale` asks for them.
            level: Between 0 and 1: how often the measurement is to lie between the ends.
        """
        centres, scales = self._centred(members, own)
        low, high = -self._upper(-centres, scales, level), self._upper(centres, scales, level)
        return Calibrated(low=low, high=high, std=self.deviation(members, own))

    def deviation(self, members: Floats, own: Floats | None) -> Floats:
        """The standard deviation (n,) of measurements around the mean prediction alone; arguments as above."""
        centres, scales = self._centred(members, own)
        share = np.array(self.n_rows)[:, None] / self.n
        between = np.square(centres - centres.mean(axis=0))
        variance: Floats = np.sum(share * (between + self.mean_square * np.square(scales)), axis=0)
        deviation: Floats = np.sqrt(variance)
        return deviation

    def atoms(self, n: int) -> Floats:
        """At most `n` scores that stand for all rows alike, in units of the scores' root mean square."""
        scores, counts = self._ordered()
        ranks = (np.arange(min(n, self.n)) + 0.5) / min(n, self.n) * self.n
        found = scores[np.searchsorted(np.cumsum(counts), ranks, "left")]
        size = math.sqrt(np.mean(np.square(found)))
        return found / size if size > 0 else found

    def _centred(self, members: Floats, own: Floats | None) -> tuple[Floats, Floats]:
        """Of each group (n_groups, n) what it predicts, and by what its scores are multiplied."""
        centres = members.astype(np.float64) if self.is_by_fold else members.mean(axis=0, dtype=np.float64)[None]
        if not self.asks_deviation:
            return centres, np.ones(centres.shape)
        assert own is not None, "whoever predicts asks for it where `scale` says so"
        squares = np.square(own, dtype=np.float64)
        return centres, _scales(np.sqrt(squares if self.is_by_fold else squares.mean(axis=0)[None]), self.noise)

    def _upper(self, centres: Floats, scales: Floats, level: float) -> Floats:
        wanted = self._rank(level)
        if wanted > self.n:
            return np.full(centres.shape[1], math.inf)
        scores, counts = self._ordered()
        one = scores[np.searchsorted(np.cumsum(counts), wanted, "left")]
        ends = centres + one * scales
        # With the score that is right for all groups together, the end lies between the groups' own ends.
        low: Floats = ends.min(axis=0)
        high: Floats = ends.max(axis=0)
        if self.is_by_fold:
            n_up_to = [np.concatenate([[0], np.cumsum(_counts(*one))]) for one in self._groups()]
            for _ in range(_N_HALVINGS):
                middle = (low + high) / 2
                n_below = np.zeros(len(middle), dtype=np.int64)
                for group, (of_group, _) in enumerate(self._groups()):
                    place = np.searchsorted(of_group, (middle - centres[group]) / scales[group], "right")
                    n_below += n_up_to[group][place]
                is_enough = n_below >= wanted
                high, low = np.where(is_enough, middle, high), np.where(is_enough, low, middle)
        return high

    def _rank(self, level: float) -> int:
        """Which of the scores, counted from 1, is that of the level."""
        return max(1, math.ceil(level * (self.n + 1) - 1e-9))

    def _groups(self) -> list[tuple[Floats, int]]:
        return [(np.array(one), n_rows) for one, n_rows in zip(self.scores, self.n_rows, strict=True)]

    def _ordered(self) -> tuple[Floats, NDArray[np.int64]]:
        """The scores of all groups in ascending order, and for how many rows each stands."""
        scores = np.concatenate([one for one, _ in self._groups()])
        counts = np.concatenate([_counts(*one) for one in self._groups()])
        order = np.argsort(scores, kind="stable")
        return scores[order], counts[order]


def calibrate(
    prediction: Floats,
    target: Floats,
    *,
    validated: str,
    fold: NDArray[np.int64] | None = None,
    deviation: Floats | None = None,
) -> Calibration | None:
    """The calibration of predictions of rows that the models were not trained on; None of fewer than two finite ones.

    Args:
        prediction: (n,), out of fold.
        target: (n,), what was measured.
        validated: What kind of rows they are, in words.
        fold: (n,), 0 to n_folds - 1, which fold's model predicted each; None where that is not one model each.
        deviation: (n,), the model's own deviation of each. It is the scale where the intervals are better by it: by the
            mean interval score (Gneiting and Raftery 2007) at `LEVEL`, of all rows.
    """
    residual = np.abs(target.astype(np.float64) - prediction)
    if len(residual) < _MIN_ROWS or not np.isfinite(residual).all():
        return None
    scale: Scale = "constant"
    noise, size = 0.0, float(np.mean(residual**2))
    if deviation is not None and np.isfinite(deviation).all() and size > 0:
        own = float(np.mean(np.square(deviation, dtype=np.float64)))
        noise = _rounded_up(math.sqrt(max(size - own, size * _LEAST_SHARE**2)))
        scales = _scales(deviation, noise)
        if _interval_score(residual, scales) < _interval_score(residual, np.ones(len(residual))):
            scale, residual = "deviation", residual / scales
    n_folds = 1 if fold is None else int(fold.max()) + 1
    counts = np.bincount(fold, minlength=n_folds) if fold is not None else np.array([len(residual)])
    if n_folds > MOST_GROUPS or not counts.all():
        fold, n_folds = None, 1
    groups = [residual] if fold is None else [residual[fold == number] for number in range(n_folds)]
    return Calibration(
        validated=validated,
        scale=scale,
        noise=noise if scale == "deviation" else 0.0,
        mean_square=_rounded_up(float(np.mean(residual**2))),
        n_rows=[len(group) for group in groups],
        scores=[_thinned(np.sort(group), np.ones(len(group), np.int64), MOST_SCORES // n_folds) for group in groups],
    )


def _interval_score(residual: Floats, scales: Floats) -> float:
    """The mean score of intervals that `LEVEL` of the rows (n,) lie in: width, and what lies outside by how far."""
    ratio = np.sort(residual / scales)
    half = ratio[min(len(ratio), math.ceil(LEVEL * (len(ratio) + 1))) - 1] * scales
    return float(np.mean(2 * half + 2 / (1 - LEVEL) * np.maximum(0, residual - half)))


def _scales(deviation: Floats, noise: float) -> Floats:
    scales: Floats = np.sqrt(np.square(deviation, dtype=np.float64) + noise**2)
    return scales


def _thinned(scores: Floats, counts: NDArray[np.int64], most: int = MOST_SCORES) -> list[float]:
    """At most so many of the rows' scores, those at the upper ends of parts of nearly one size, rounded up.

    scores: in ascending order. counts: for how many rows each stands.
    """
    n_up_to = np.cumsum(counts)
    n_rows = int(n_up_to[-1])
    ends = np.cumsum(_counts(np.empty(min(most, n_rows)), n_rows))
    return [_rounded_up(score) for score in scores[np.searchsorted(n_up_to, ends, "left")].tolist()]


def _counts(scores: Sequence[float] | Floats, n_rows: int) -> NDArray[np.int64]:
    """For how many of the rows each score stands."""
    return np.diff(np.arange(len(scores) + 1) * n_rows // len(scores))


def _rounded_up(value: float) -> float:
    """The value with five digits, no less than it was."""
    if value == 0:
        return 0.0
    digits = 4 - math.floor(math.log10(value))
    rounded = round(value, digits)
    return rounded if rounded >= value else round(value + 10.0**-digits, digits)


def _expect(is_met: bool, name: str, value: object, expected: str) -> None:
    if not is_met:
        raise UserError(f"{name}={value!r} is not valid: expected {expected}.")
