"""From what a model computes to the unit of the assay, and from measurements to what it learns."""

from typing import Any, Literal

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import rankdata
from torch import Tensor, nn

Transform = Literal["none", "standardize", "rank_normal"]
_LEAST_CORRELATION = 0.01
_MOST_KNOTS = 257


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

    def deviation(self, score: Tensor, std: Tensor) -> Tensor:
        """The standard deviation (B,) of predictions whose scores (B,) have the standard deviation `std` (B,)."""
        return self.unit * std

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
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


class RankNormal(nn.Module):
    """Scores are the normal scores of the targets' ranks among those of training; predictions are mapped back.

    The normal score of rank r of N is the normal quantile of (r - 1/2) / N, equal targets sharing their mean rank. The
    map is linear between the targets of training, of which it keeps 257 quantiles at most, and beyond them along the
    line through the first and the last. It rises everywhere, so that predictions are ranked as scores are.

    Attributes:
        knots: (2, K) float64, scores and their targets, both rising; K follows from the data.
    """

    knots: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64))

    def forward(self, score: Tensor) -> Tensor:
        """Predictions (B,) of scores (B,)."""
        return self.exact(score).float()

    def exact(self, score: Tensor) -> Tensor:
        """Predictions (B,) float64 of scores (B,). They rise at knots, too, where two lines meet but for rounding."""
        first, slope = self._pieces(score)
        found = self.knots[1][first] + slope * (score.double() - self.knots[0][first])
        last = self.knots.shape[1] - 1
        end = self.knots[1][(first + 1).clamp(max=last)]
        is_inside = (score.double() >= self.knots[0][0]) & (first < last)
        return torch.where(is_inside, torch.minimum(found, end), found)

    def standardized(self, target: Tensor) -> Tensor:
        """The scores (B,) that would predict targets (B,)."""
        first, slope = self._pieces(target, of=1)
        return (self.knots[0][first] + (target.double() - self.knots[1][first]) / slope).to(target.dtype)

    def deviation(self, score: Tensor, std: Tensor) -> Tensor:
        """The standard deviation (B,) of predictions whose scores (B,) have the standard deviation `std` (B,).

        It is that of the line that the map is at the score.
        """
        return (self._pieces(score)[1] * std).to(std.dtype)

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        """Take the map from targets (N,)."""
        values, first = np.unique(target.double().cpu().numpy(), return_index=True)
        if len(values) == 1:
            knots = np.array([[0.0, 1.0], [values[0], values[0] + 1.0]])
        else:
            scores = ndtri((rankdata(target.double().cpu().numpy()) - 0.5) / len(target))[first]
            kept = np.unique(np.linspace(0, len(values) - 1, _MOST_KNOTS).round().astype(int))
            knots = np.stack([scores[kept], values[kept]])
        self.knots = torch.from_numpy(knots).to(self.knots.device)

    def _pieces(self, values: Tensor, of: int = 0) -> tuple[Tensor, Tensor]:
        """For each value the knot at which its line begins, and the slope of the map there."""
        scores, targets = self.knots
        place = torch.searchsorted(self.knots[of].contiguous(), values.double().contiguous(), right=True) - 1
        inside = place.clamp(0, self.knots.shape[1] - 2)
        slopes = targets.diff() / scores.diff()
        overall = (targets[-1] - targets[0]) / (scores[-1] - scores[0])
        is_beyond = values.double() > self.knots[of][-1]
        first = torch.where(is_beyond, torch.full_like(inside, self.knots.shape[1] - 1), inside)
        return first, torch.where((place < 0) | is_beyond, overall, slopes[inside])

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}knots")
        if saved is not None and saved.dim() == 2 and saved.shape[0] == 2 and saved.shape[1] > 1:
            self.knots = self.knots.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not bool((self.knots.diff(dim=1) > 0).all()):
            args[-1].append(f"{prefix}knots do not rise")


def _spread(values: Tensor) -> Tensor:
    """The standard deviation () of values (N,), 1 if they are all the same."""
    spread = values.std(correction=0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))
