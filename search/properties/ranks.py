"""The order of candidates by several properties: by non-domination, or by the chance to be what is required."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.stats.calibration import Calibration
from search.stats.domination import best_first, crowding, fronts

Floats = NDArray[np.floating[Any]]
_N_ATOMS = 1000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ranked:
    """order: (n,), the numbers of the candidates, the best first. by: what they are ordered by, (n,) by its name."""

    order: NDArray[np.int64]
    by: Mapping[str, NDArray[Any]]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """The rank (n,) of each candidate, from 1."""
        found = np.empty(len(self.order), dtype=np.int64)
        found[self.order] = np.arange(1, 1 + len(self.order))
        return found


def by_prediction(prediction: Floats) -> Ranked:
    """Ranked by one property: the highest first, of equal ones the first."""
    return Ranked(order=np.argsort(-prediction, kind="stable"), by={})


def by_domination(predictions: Sequence[Floats]) -> Ranked:
    """Ranked by fronts, and within a front those with the most room first; see `search.stats.domination`."""
    values = np.stack(predictions, axis=1)
    front = fronts(values)
    distance = crowding(values, front)
    return Ranked(order=best_first(front, distance), by={"front": front, "crowding": distance})


def by_requirements(predictions: Sequence[Floats], chances: Mapping[str, Floats], free: Sequence[int]) -> Ranked:
    """Ranked by what a candidate is worth if those that fail are worth nothing: its chance times its value.

    The chance is that all requirements are met, errors of different properties being independent. The value is the mean
    of the `free` properties, those without a requirement: 0 of the lowest prediction of all candidates, 1 of the
    highest. Where no property is free the chance decides alone. Of equal ones the likelier, then the first comes first.

    Args:
        predictions: (n,) of each property.
        chances: (n,) of each required one, by its name.
        free: The numbers of the others.
    """
    chance = np.prod(np.stack(list(chances.values())), axis=0)
    by = {"p_required": chance}
    if len(chances) > 1:
        by |= {f"p_{name}": found for name, found in chances.items()}
    if not free:
        return Ranked(order=np.argsort(-chance, kind="stable"), by=by)
    value = np.mean([_share_of_range(predictions[number].astype(np.float64)) for number in free], axis=0)
    score = chance * value
    return Ranked(order=np.lexsort((-chance, -score)), by={"score": score, **by})


def chance_between(
    prediction: Floats, deviation: Floats, calibration: Calibration, low: float, high: float
) -> NDArray[np.float64]:
    """The chance (n,) that a measurement lies from `low` to `high`.

    It is the prediction (n,) plus an error like those on validated rows, up as likely as down, of the calibrated
    deviation (n,); `p_top` of `predict` is made in the same way.
    """
    sizes = calibration.atoms(_N_ATOMS)
    errors = np.concatenate([-sizes[::-1], sizes])
    shares = (np.arange(len(errors)) + 0.5) / len(errors)

    def below(bound: float, *, with_equal: bool) -> NDArray[np.float64]:
        if np.isinf(bound):
            return np.full(len(prediction), float(bound > 0))
        room = bound - prediction.astype(np.float64)
        is_certain = (deviation <= 0) | (sizes[-1] <= 0)
        ratio = room / np.where(is_certain, 1, deviation)
        return np.where(
            is_certain, room >= 0 if with_equal else room > 0, np.interp(ratio, errors, shares, left=0, right=1)
        )

    found: NDArray[np.float64] = np.clip(below(high, with_equal=True) - below(low, with_equal=False), 0, 1)
    return found


def _share_of_range(values: Floats) -> Floats:
    span = np.ptp(values)
    return np.ones(len(values)) if span == 0 else (values - values.min()) / span
