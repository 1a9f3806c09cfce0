"""What a trial predicted for its validation rows, as its folder holds it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from search.training.result import trial_folder

VALIDATION = "validation.safetensors"
"""A file of `row`, `prediction` and `target`, as `search.training.fit` writes it, which needs torch; readers do not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The n rows of the prepared split that a trial was validated on, all folds together.

    row: (n,) int64. prediction and target: (n,) float32, in the task's units.
    """

    row: NDArray[np.int64]
    prediction: NDArray[np.float32]
    target: NDArray[np.float32]


def read_predictions(study_folder: Path, trial: int) -> Predictions | None:
    """The predictions of a complete trial; None where its folder does not hold them, say on another machine."""
    return predictions_in(trial_folder(study_folder, trial))


def predictions_in(folder: Path) -> Predictions | None:
    """The predictions of a complete run in its folder; None where that does not hold them."""
    try:
        with safe_open(folder / VALIDATION, framework="numpy") as file:
            row, prediction, target = (file.get_tensor(name) for name in ("row", "prediction", "target"))
    except (OSError, SafetensorError):
        return None
    if not row.shape == prediction.shape == target.shape or row.ndim != 1:
        return None
    return Predictions(row=row, prediction=prediction, target=target)
