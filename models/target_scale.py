"""From what a model computes to the unit of the assay."""

import torch
from torch import Tensor, nn

_LEAST_CORRELATION = 0.01


class TargetScale(nn.Module):
    """Prediction = offset + unit * score. Both are buffers, so that a checkpoint predicts in the assay's unit.

    Attributes:
        offset, unit: () float32, in the unit of the targets; the unit is positive, so that it changes no ranks.
    """

    offset: Tensor
    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))

    def forward(self, score: Tensor) -> Tensor:
        """Predictions (B,) of scores (B,)."""
        return self.offset + self.unit * score

    def standardized(self, target: Tensor) -> Tensor:
        """The scores (B,) that would predict targets (B,)."""
        return (target - self.offset) / self.unit

    @torch.no_grad()
    def standardize(self, target: Tensor) -> None:
        """Let scores of mean 0 and standard deviation 1 predict targets (N,) of theirs."""
        target = target.double()
        self.offset.copy_(target.mean())
        self.unit.copy_(_spread(target))

    @torch.no_grad()
    def calibrate(self, score: Tensor, target: Tensor) -> None:
        """Predict targets (N,) from scores (N,) by least squares, along a line that rises whatever they say."""
        score, target = score.double(), target.double()
        deviation, spread = score - score.mean(), _spread(score)
        correlation = (deviation * (target - target.mean())).mean() / (spread * _spread(target))
        unit = correlation.clamp(min=_LEAST_CORRELATION) * _spread(target) / spread
        self.unit.copy_(unit)
        self.offset.copy_(target.mean() - unit * score.mean())


def _spread(values: Tensor) -> Tensor:
    """The standard deviation () of values (N,), 1 if they are all the same."""
    spread = values.std(correction=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))
