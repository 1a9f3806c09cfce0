"""What an ensemble makes of its members' predictions, and where the numbers for it come from.

Their weighted average is mapped to the assay's unit by a straight line: the least squares of the out-of-fold targets.
Where those who judge were selected, as a later round is, such a line may miss all others by more than they differ: then
it is the mean of the members' own scales, which training on all rounds gave them.

Members that are trained again, on more rows, are standardised by what they predict then: one that hardly varied before
would count for hundreds of deviations.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.experiments.averages import deviation_of, mean_of
from search.experiments.members import Ensemble, Share
from search.stats.sums import weighted_sum
from search.training.predictions import Predictions

Floats = NDArray[np.floating[Any]]
Scale = tuple[float, float]
"""The mean and the deviation of what a member predicts of test sequences."""
SCALES = "scales"
"""What `confirm` calls those of the members that it trained."""


def scale_of(predictions: Floats) -> Scale:
    """Of what the models (M, n) of a member predict, the scale of their mean."""
    mean = predictions.mean(axis=0, dtype=np.float64)
    return float(mean.mean()), float(mean.std())


def trained_again(ensemble: Ensemble, scales: Sequence[Scale]) -> Ensemble:
    """The ensemble with members that were trained again, and are standardised by these scales, one of each.

    The line stays as it is; where it is the members' own, it is that of these. A member that predicts one number keeps
    the deviation that it had.
    """
    members = tuple(
        replace(one, share=replace(one.share, mean=mean, deviation=deviation or one.share.deviation))
        for one, (mean, deviation) in zip(ensemble.members, scales, strict=True)
    )
    origins = ensemble.origins
    if origins.is_own_scale:
        weights = np.array([member.share.weight for member in members])
        intercept, slope = weighted_sum(weights, np.array([[one.share.mean, one.share.deviation] for one in members]))
        origins = replace(origins, intercept=float(intercept), slope=float(slope))
    return replace(ensemble, members=members, origins=origins)


def in_unit(ensemble: Ensemble, number: int, predictions: Floats) -> NDArray[np.float32]:
    """Predictions of member `number`, of any shape and in the assay's unit, on the scale of the ensemble.

    The mean of these over the members, with their weights, is what the ensemble predicts.
    """
    share, origins = ensemble.members[number].share, ensemble.origins
    with np.errstate(over="ignore", invalid="ignore"):  # whoever takes it looks for what is not finite
        standardised = (predictions.astype(np.float64) - share.mean) / share.deviation
        found: NDArray[np.float32] = (origins.intercept + origins.slope * standardised).astype(np.float32)
    return found


def together(
    ensemble: Ensemble, predictions: Sequence[Floats]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What it predicts, and how far its members lie apart around it, which of a single member is None.

    Of predictions of its members on its scale (`in_unit`): arrays of one shape, which is also that of what is returned.
    """
    shape = predictions[0].shape
    flat = np.stack(predictions).astype(np.float32).reshape(len(predictions), -1)
    weights = np.array([member.share.weight for member in ensemble.members])
    spread = deviation_of(flat, weights)
    return mean_of(flat, weights).reshape(shape), None if spread is None else spread.reshape(shape)


def of_seeds(
    ensemble: Ensemble, predictions: Sequence[Floats]
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32] | None]]:
    """What it predicts with each seed (n_seeds, n); and, as (1, n), the mean of the seeds and its spread.

    Of the predictions (n_seeds, n) of each member, in the assay's unit.
    """
    on_scale = [in_unit(ensemble, number, rows) for number, rows in enumerate(predictions)]
    means = [rows.mean(axis=0, keepdims=True) for rows in on_scale]
    return together(ensemble, on_scale)[0], together(ensemble, means)


def shares_of(
    weights: Floats,
    predictions: Floats,
    target: Floats,
    reference: Floats | None = None,
    *,
    is_own_scale: bool = False,
) -> tuple[list[Share], float, float]:
    """The shares of members with these weights (K,), and the intercept and the slope of their average.

    Of their out-of-fold predictions (K, n), none of them constant, and the targets (n,) of the same sequences. They are
    standardised by what they predict of test sequences, `reference` (K, m); by the former where one of them predicts
    one number there. The line is the least squares of the targets; `is_own_scale`: the mean of the means, and that of
    the deviations, as if each member's predictions were in the assay's unit.
    """
    wide, measured = predictions.astype(np.float64), target.astype(np.float64)
    by = wide if reference is None or not (np.ptp(reference, axis=1) > 0).all() else reference.astype(np.float64)
    mean, deviation = by.mean(axis=1), by.std(axis=1)
    shares = [
        Share(weight=float(one), mean=float(own), deviation=float(spread))
        for one, own, spread in zip(weights, mean, deviation, strict=True)
    ]
    if is_own_scale:
        intercept, slope = weighted_sum(weights, np.column_stack((mean, deviation)))
        return shares, float(intercept), float(slope)
    average = weighted_sum(weights, (wide - mean[:, None]) / deviation[:, None])
    covariance = float(np.mean((average - average.mean()) * (measured - measured.mean())))
    variance = float(np.var(average))
    # A line that falls would turn the ranking round: then only its spread is that of the targets.
    slope = covariance / variance if covariance > 0 else float(measured.std()) / variance**0.5
    return shares, float(measured.mean() - slope * average.mean()), slope


def scales_follow(ensemble: Ensemble, found: Sequence[Predictions], reference: Floats, *, within: float) -> bool:
    """Whether its scales follow from what its members predict, out of fold and of test sequences (K, m).

    `within`: relative to the numbers and to the deviation of the targets, 0 is exactly.
    """
    if any(not np.array_equal(one.row, found[0].row) for one in found):
        return False
    weights = np.array([member.share.weight for member in ensemble.members])
    shares, *line = shares_of(
        weights,
        np.stack([one.prediction for one in found]),
        found[0].target,
        reference,
        is_own_scale=ensemble.origins.is_own_scale,
    )
    now = [*line, *(number for share in shares for number in (share.mean, share.deviation))]
    then = [ensemble.origins.intercept, ensemble.origins.slope]
    then += [number for one in ensemble.members for number in (one.share.mean, one.share.deviation)]
    return bool(np.allclose(now, then, rtol=within, atol=within * float(np.std(found[0].target))))
