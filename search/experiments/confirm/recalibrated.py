"""What the intervals of weights that `confirm` trains are made of.

The search knows how far off one model was. `confirm` leaves several that differ by their seeds, whose mean is off by
less: where it trains as many without rows that the search validated, how far off their mean was on these counts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datasets.splits.prepared import PreparedSplit
from datasets.validation.folds import folds_of_split
from search.config.run_config import task_of
from search.config.targets import is_exact
from search.experiments.confirm.over_seeds import OverSeeds
from search.experiments.experiment import Experiment
from search.experiments.scales import of_seeds
from search.stats.calibration import Calibration, Floats, calibrate
from search.study.protocol import build_validation

if TYPE_CHECKING:
    from search.training.predict_split import WrittenPredictions  # torch

Rows = NDArray[np.int64]
"""Numbers (n,) of rows of a split."""


def held_back(experiment: Experiment, split: PreparedSplit) -> Rows | None:
    """The rows (n,) of the split that the search validated and that training on `train` alone leaves out.

    None where it validated others, and where nothing is new: an experiment without errors has no intervals, and models
    that are solved exactly are those that the search knows. To be called before anything is trained: it may load the
    module of a protocol, or refuse one.
    """
    if experiment.calibration is None or all(is_exact(part.config.model) for part in experiment.parts):
        return None
    config = experiment.parts[0].config
    folds = folds_of_split(build_validation(config.validation), split, task_of(config))
    rows = np.flatnonzero(split.validation)
    is_same = len(folds) == 1 and np.array_equal(np.sort(folds[0].validation), rows)
    return rows if is_same else None


def recalibrated(
    experiment: Experiment,
    split: PreparedSplit,
    rows: Rows | None,
    written: "Sequence[WrittenPredictions]",
    n_seeds: int,
    ensemble: OverSeeds | None,
) -> Calibration | None:
    """What intervals are made of, by the errors of the seeds' mean; None where there are no rows to tell it by.

    Args:
        experiment: Whose they are.
        split: What was measured.
        rows: (n,), those that `held_back` names.
        written: Predictions and deviations of these rows (2 * n_seeds, n), the latter half by models trained without
            them, of each of the experiment's parts; beyond these there are none.
        n_seeds: How many there are.
        ensemble: Of an experiment with members, these together.
    """
    if experiment.calibration is None or rows is None:
        return None
    parts = [one.rows[n_seeds:] for one in written if one.rows is not None]
    mean, spread = parts[0].mean(axis=0, keepdims=True), None
    if ensemble is not None:
        _, (mean, spread) = of_seeds(ensemble.trained("train"), parts)
    own: Floats | None = None if spread is None else spread[0]
    if (known := written[0].rows_deviation) is not None:
        own = np.sqrt(np.square(known[n_seeds:], dtype=np.float64).mean(axis=0))
    return calibrate(mean[0], split.target[rows], validated=experiment.calibration.validated, deviation=own)
