"""The calibration of a trial's predictions, from what its folds predicted of rows that they were not trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.validation.folds import folds_of_split
from search.config.run_config import RunConfig, task_of
from search.config.targets import knows_deviation
from search.stats.calibration import Calibration, calibrate
from search.study.protocol import build_validation
from search.training.predictions import Predictions


def calibration_of(
    config: RunConfig,
    split: PreparedSplit,
    predictions: Predictions,
    *,
    validated: str,
    weights: Sequence[Path],
    places: Places | None,
) -> Calibration | None:
    """What intervals of an experiment are made of; None where its predictions say nothing of that.

    Args:
        config: The run.
        split: Its rows.
        predictions: What it predicted of the rows that its folds validated.
        validated: What kind of rows these are, in words.
        weights: Of each fold, where the model's own deviations, if it knows them, can be had from.
        places: Where pretrained weights are found; None to do without the model's own deviations.
    """
    fold = fold_of_each(config, split, predictions.row)
    own = None
    if fold is not None and places is not None and knows_deviation(config.model):
        own = _own_deviations(config, split, predictions.row, fold, weights, places)
    return calibrate(predictions.prediction, predictions.target, validated=validated, fold=fold, deviation=own)


def fold_of_each(config: RunConfig, split: PreparedSplit, row: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Which fold of a run validated each of the rows (n,); None where it was not one fold each."""
    folds = folds_of_split(build_validation(config.validation), split, task_of(config))
    rows = np.concatenate([fold.validation for fold in folds])
    number = np.repeat(np.arange(len(folds)), [len(fold.validation) for fold in folds])
    order = np.argsort(rows, kind="stable")
    return number[order] if np.array_equal(rows[order], row) else None


def _own_deviations(
    config: RunConfig,
    split: PreparedSplit,
    row: NDArray[np.int64],
    fold: NDArray[np.int64],
    weights: Sequence[Path],
    places: Places,
) -> NDArray[np.float32] | None:
    """The deviation (n,) that each row's fold gives its prediction; None where its weights are not at hand."""
    # Torch, which the parent of training processes does without otherwise; GPUs are left to those who train.
    import torch

    from search.training.predict_split import beside_rows
    from search.training.predictor import Predictor

    found = np.empty(len(row), dtype=np.float32)
    try:
        for number, path in enumerate(weights):
            predictor = Predictor(config, [path], places=places, device=torch.device("cpu"))
            rows = row[fold == number]
            found[fold == number] = predictor.deviation(
                split.residues[rows], split.lengths[rows], **beside_rows(config, split, rows)
            )[0]
    except UserError:  # weights that are not on this machine
        return None
    return found
