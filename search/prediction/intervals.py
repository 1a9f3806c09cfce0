"""The intervals and chances of predictions: who can have them, what makes them, and what they are in words."""

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from search.experiments.trained import TrainedExperiment
from search.prediction.ranking import Chances
from search.stats.top_chance import N_ATOMS, top_chance

_NEW_EXPORT = (
    "intervals need an export by this version; the same search command with another --export-dir makes one, where the "
    "runs directory holds what the trial predicted"
)


def check_intervals(trained: TrainedExperiment, level: float | None, top_chance: int | None) -> None:
    """Refuse what an experiment cannot say that holds no errors; None is what nobody asked for.

    Raises:
        UserError: It holds none, and a level or a chance is asked for.
    """
    for option, asked in (("--level", level), ("--top-chance", top_chance)):
        if trained.calibration is None and asked is not None:
            raise UserError(
                f"{option} needs the errors on validated rows, which {trained.path} does not hold: {_NEW_EXPORT}."
            )


def chances_of(trained: TrainedExperiment, k: int | None) -> Chances | None:
    """What makes chances of all candidates' predictions and deviations; None where nobody asks.

    Raises:
        UserError: There are no more candidates than k.
    """
    calibration = trained.calibration
    if k is None or calibration is None:
        return None

    def chances(prediction: NDArray[np.float32], deviation: NDArray[np.floating]) -> NDArray[np.float32]:
        if k >= len(prediction):
            raise UserError(
                f"--top-chance {k} is not valid for {len(prediction)} candidates, which would all be among the best "
                f"{k}: expected fewer than there are candidates."
            )
        return top_chance(prediction, deviation, calibration.atoms(N_ATOMS), k)

    return chances


def about_intervals(trained: TrainedExperiment, level: float) -> str:
    """What low and high are made of, and for what they hold."""
    calibration = trained.calibration
    if calibration is None:
        return f"No intervals: {trained.path} holds no errors on validated rows; {_NEW_EXPORT}."
    share = f"{100 * level:.4g} %"
    if not calibration.is_enough(level):
        return f"No {share} intervals: {calibration.n:,} validated rows are too few for them; low and high are empty."
    way = "CV+ of the folds" if calibration.is_by_fold else "split-conformal"
    if trained.made_by == "suggest":
        way = "split-conformal; the models that erred so saw fewer rows than those that predict"
    if trained.made_by == "confirm":
        way = "split-conformal, because the weights are not those of the folds but of `confirm`"
    if trained.erred == "confirm":
        way = "split-conformal, by the mean of as many models as predict, which `confirm` trained without them"
    return (
        f"{share} intervals from the errors on {calibration.n:,} rows ({calibration.validated}; {way}): they hold for "
        "rows of that kind; where a candidate lies outside, low and high are empty."
    )
