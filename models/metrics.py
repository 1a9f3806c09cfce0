"""Spearman's rank correlation, as the objective of a search needs it."""

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torchmetrics import Metric


def spearman(prediction: Tensor, target: Tensor) -> float:
    """Rank correlation of predictions (N,) and targets (N,) in float64, ties sharing their mean rank.

    NaN where it says nothing: a prediction or target is not finite, or all predictions or targets are equal.
    `torchmetrics.SpearmanCorrCoef` answers 0.99 with one NaN among 500 predictions and 0.0 for constant ones.
    """
    values = torch.stack([prediction.detach().double().flatten(), target.detach().double().flatten()]).cpu()
    if values.shape[1] < 2 or not values.isfinite().all() or (values == values[:, :1]).all(dim=1).any():
        return float("nan")
    return float(spearmanr(*values.numpy()).statistic)


def is_constant(prediction: Tensor) -> bool:
    """Whether predictions (N,) are one number: sums of the same terms may differ in the last bits of float32."""
    values = prediction.detach().double()
    low, high = values.min(), values.max()
    return bool(high - low <= 4 * torch.finfo(torch.float32).eps * torch.maximum(high.abs(), low.abs()))


class Spearman(Metric):
    """`spearman` over all batches of an epoch; `compute()` gives a float64 scalar on the CPU."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    prediction: list[Tensor]
    target: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("prediction", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of predictions (B,) and targets (B,)."""
        self.prediction.append(prediction.detach())
        self.target.append(target.detach())

    def compute(self) -> Tensor:
        """The correlation over everything added since the last reset."""
        value = spearman(torch.cat(self.prediction), torch.cat(self.target)) if self.prediction else float("nan")
        return torch.tensor(value, dtype=torch.float64)
