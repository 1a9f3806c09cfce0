"""The validation predictions of a run, all folds pooled: what its value is computed of, and a file of them.

The file, `validation.safetensors` in a run's folder, holds `row` (n,) int64, ascending numbers of rows of the prepared
split, `prediction` (n,) float32 of the kept weights, and `target` (n,) float32. A row that several folds validate has
the mean of their predictions.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from datasets.common.files import replaced
from datasets.splits.prepared import PreparedSplit
from search.training.predictions import VALIDATION


def pooled(rows: Sequence[Tensor], predictions: Sequence[Tensor], split: PreparedSplit) -> dict[str, Tensor]:
    """The arrays of the file from the rows (n_fold,) int64 and predictions (n_fold,) of each fold."""
    row, place = torch.unique(torch.cat(list(rows)), return_inverse=True)
    every = torch.cat(list(predictions)).float()
    # One prediction is its own mean, bit for bit.
    total = torch.zeros(len(row), dtype=torch.float64).index_add_(0, place, every.double())
    return {
        "row": row,
        "prediction": (total / torch.bincount(place)).float(),
        "target": torch.from_numpy(split.target)[row],
    }


def save_pooled(arrays: dict[str, Tensor], directory: Path) -> None:
    """Write the file beside its place and move it there."""
    with replaced(directory / VALIDATION) as beside:
        save_file(arrays, beside)
