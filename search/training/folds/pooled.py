"""What the predictions of all folds come to together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.splits.prepared import PreparedSplit
from datasets.validation.protocols import is_most
from models.metrics import is_constant
from search.training.checkpoint.progress import Progress


def why_constant(progress: Progress) -> str:
    """Why the predictions of all folds together say nothing: most are one number a fold. Empty if they are not."""
    flat = [is_constant(prediction) for prediction in progress.predictions]
    if not is_most([len(prediction) for prediction in progress.predictions], flat):
        return ""
    return f"in {sum(flat)} of {len(flat)} fold(s) all validation predictions are the same number"


def pooled(rows: Sequence[Tensor], predictions: Sequence[Tensor], split: PreparedSplit) -> dict[str, Tensor]:
    """What `search.training.predictions` reads, from the rows (n_fold,) int64 and predictions (n_fold,) of each fold.

    A row that several folds validate has the mean of their predictions.
    """
    row, place = torch.unique(torch.cat(list(rows)), return_inverse=True)
    every = torch.cat(list(predictions)).float()
    # One prediction is its own mean, bit for bit.
    total = torch.zeros(len(row), dtype=torch.float64).index_add_(0, place, every.double())
    return {
        "row": row,
        "prediction": (total / torch.bincount(place)).float(),
        "target": torch.from_numpy(split.target)[row],
    }
