"""The order in which candidates are picked by several properties, or by what is required, for each acquisition.

greedy, ucb: what each property is worth, by fronts or by the chance to be what is required. thompson: the same of one
draw of each property for each candidate. expected-improvement: the expected hypervolume improvement (see
`search.stats.hypervolume`) over the front of what was measured; with requirements that of the other properties, over
what meets them, times the chance to meet them (Gardner, Kusner, Xu, Weinberger and Cunningham 2014, "Bayesian
optimization with inequality constraints").
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.codes import as_bytes
from search.prediction.ranking import Valued
from search.prediction.writers import PredictedBlock
from search.properties.columns import PropertyColumns
from search.properties.opened import Property
from search.properties.ranking import chances_of, order_of
from search.properties.ranks import Ranked
from search.request.suggest_request import SuggestRequest
from search.stats.domination import fronts
from search.stats.hypervolume import OpenPoints, in_turn
from search.suggestion.acquisition import acquired, asks_deviation, uniform_draws
from search.suggestion.best import distinct
from search.suggestion.choice import GREEDY

Floats = NDArray[np.floating[Any]]
Bounds = Mapping[int, tuple[float, float]]
_IN_TURN = 4096  # of the most worth alone, those that are looked at as a batch
_N_COARSE = 256  # points, by which they are found among many candidates
_MARGIN = 0.1  # of a range: how far the reference lies below the measured front, and the last points at least above it
_DEVIATIONS = 3  # above a prediction, up to which a measurement is looked at
IMPROVEMENT = "improvement"


def check_acquisition(request: SuggestRequest, properties: Sequence[Property], bounds: Bounds) -> None:
    """Refuse an acquisition that these properties cannot be picked by. Raises a UserError."""
    for one in properties:
        if one.trained.calibration is None and asks_deviation(request.acquisition or GREEDY, one.trained.n_members):
            raise UserError(
                f"--acquisition {request.acquisition} needs the errors on validated rows, which {one.trained.path} "
                "does not hold: export it with this version, or take greedy."
            )
    if (request.acquisition or GREEDY) != GREEDY and len(bounds) == len(properties):
        raise UserError(
            f"--acquisition {request.acquisition} is of a property without a requirement, and --require names all of "
            "them: take greedy, which picks by the chance to meet it, or name another experiment."
        )


def draw_of(
    request: SuggestRequest, properties: Sequence[Property]
) -> Callable[[int, Valued, PredictedBlock], Floats] | None:
    """What draws (n,) of each property, given by its number, for some candidates; None where no draw is asked for.

    A draw is the candidate's own, by the seed, the property's name and the sequence.
    """
    if request.acquisition != "thompson":
        return None

    def draw(number: int, valued: Valued, predicted: PredictedBlock) -> Floats:
        own, some = properties[number], valued.candidates
        draws = uniform_draws(as_bytes(some.residues, some.lengths), request.seed, own.name)
        deviation = None if predicted.calibrated is None else predicted.calibrated.std
        return acquired(
            "thompson",
            valued.prediction,
            deviation,
            members=valued.members,
            weights=own.trained.weights,
            draws=draws,
        )

    return draw


def joint_order(
    request: SuggestRequest,
    properties: Sequence[Property],
    columns: Sequence[PropertyColumns],
    bounds: Bounds,
    n_wanted: int,
) -> Ranked:
    """The candidates of some columns, the one that is picked first first; `n_wanted` of them are, if they fit."""
    if request.acquisition == "expected-improvement":
        return _by_improvement(properties, columns, bounds, n_wanted)
    values: list[Floats] = []
    for own in columns:
        if own.drawn is not None:
            values.append(own.drawn)
        else:
            deviation = None if own.calibrated is None else own.calibrated.std
            values.append(acquired(request.acquisition or GREEDY, own.prediction, deviation, beta=request.deviations))
    return order_of(properties, columns, bounds, values)


def _by_improvement(
    properties: Sequence[Property], columns: Sequence[PropertyColumns], bounds: Bounds, n_wanted: int
) -> Ranked:
    free = [number for number in range(len(properties)) if number not in bounds]
    mean = np.column_stack([columns[number].prediction for number in free]).astype(np.float64)
    deviations = [own.std for number in free if (own := columns[number].calibrated) is not None]
    deviation = np.column_stack(deviations)
    open_points = _open_points(properties, free, bounds, mean, deviation)
    chances = chances_of(properties, columns, bounds)
    chance = np.prod(np.stack(list(chances.values())), axis=0) if chances else np.ones(len(mean))
    alone, order = np.zeros(len(mean)), np.arange(len(mean))
    if len(mean) > _IN_TURN:
        alone = open_points.some(_N_COARSE).improvement(mean, deviation) * chance
        order = np.argsort(-alone, kind="stable")
    first = order[:_IN_TURN]
    alone[first] = open_points.improvement(mean[first], deviation[first]) * chance[first]
    first = first[np.argsort(-alone[first], kind="stable")]
    n_in_turn = min(len(first), 4 * n_wanted)
    turns = in_turn(open_points.reached(mean[first], deviation[first]), chance[first], n_in_turn)
    is_later = np.ones(len(first), dtype=np.bool_)
    is_later[turns] = False
    by = {IMPROVEMENT: alone} | ({"p_required": chance} if chances else {})
    if len(chances) > 1:
        by |= {f"p_{name}": found for name, found in chances.items()}
    return Ranked(order=np.concatenate([first[turns], first[is_later], order[_IN_TURN:]]), by=by)


def _open_points(
    properties: Sequence[Property], free: Sequence[int], bounds: Bounds, mean: Floats, deviation: Floats
) -> OpenPoints:
    """Points above the front of what was measured by all properties, and meets the `bounds`.

    The reference lies a tenth of the front's range below its lowest values (of everything that was measured, where no
    variant was measured by all).
    """
    measured, every = _measured(properties)
    meets = np.ones(len(measured), dtype=np.bool_)
    for number, (least, most) in bounds.items():
        meets &= (measured[:, number] >= least) & (measured[:, number] <= most)
    known = measured[meets][:, free]
    front = np.unique(known[fronts(known) == 1], axis=0) if len(known) else known
    lowest = np.array([every[number].min() for number in free])
    ranges = np.array([max(float(np.ptp(every[number])), 1e-12) for number in free])
    if len(front):
        own = np.ptp(front, axis=0)
        lowest, ranges = front.min(axis=0), np.where(own > 0, own, ranges)
    highest = (mean + _DEVIATIONS * deviation).max(axis=0)
    if len(front):
        highest = np.maximum(highest, front.max(axis=0))
    low = lowest - _MARGIN * ranges
    return OpenPoints.above(front, low, np.maximum(highest, lowest) + _MARGIN * ranges)


def _measured(properties: Sequence[Property]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """What the n variants of training and validation that have all properties were measured at (n, m); all of each."""
    known: list[dict[bytes, float]] = []
    for one in properties:
        assert one.split is not None, "is read for a plate"
        sequences, _, values = distinct(one.split)
        known.append(dict(zip(sequences, values.tolist(), strict=True)))
    of_all = [sequence for sequence in known[0] if all(sequence in own for own in known)]
    rows = [[own[sequence] for own in known] for sequence in of_all]
    every = [np.array(list(own.values())) for own in known]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(known)), every
