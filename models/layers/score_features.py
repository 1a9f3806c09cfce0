"""Score columns as a model takes them."""

import torch
from torch import Tensor, nn


class ScoreFeatures(nn.Module):
    """K score columns as 2K numbers: standardised, and whether each is missing, which then stands at the mean.

    Mean and standard deviation are those of the training rows. A column that none of them lacks has no indicator: what
    it would mean was never seen.

    Attributes:
        mean, scale, may_lack: (K,) float32; the last one is 1 where some training row lacks the column.
    """

    mean: Tensor
    scale: Tensor
    may_lack: Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("scale", torch.ones(n_columns))
        self.register_buffer("may_lack", torch.zeros(n_columns))

    def see(self, scores: Tensor) -> None:
        """Take mean and deviation from the training rows' scores (N, K), NaN where one is missing."""
        known = ~scores.isnan()
        n = known.sum(dim=0).clamp(min=1)
        values = scores.double().nan_to_num(nan=0.0)
        mean = values.sum(dim=0) / n
        deviation = (((values - mean) * known).square().sum(dim=0) / n).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))
        self.may_lack.copy_((~known).any(dim=0))

    def forward(self, scores: Tensor) -> Tensor:
        """Return (B, 2K) float32 of scores (B, K)."""
        standardised = (scores.float() - self.mean) / self.scale
        return torch.cat([standardised.nan_to_num(nan=0.0), scores.isnan() * self.may_lack], dim=1)


class ScoreHead(nn.Module):
    """A linear function of K score columns, which begins as the ridge regression of the targets on them."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.features = ScoreFeatures(n_columns)
        self.weight = nn.Parameter(torch.zeros(2 * n_columns))

    @torch.no_grad()
    def see(self, scores: Tensor, target: Tensor) -> None:
        """Begin with what the training rows' scores (N, K) say of their targets (N,)."""
        self.features.see(scores)
        features = self.features(scores).double()
        features = features - features.mean(dim=0)
        gram = features.T @ features + torch.eye(features.shape[1], dtype=torch.float64, device=features.device)
        self.weight.copy_(torch.linalg.solve(gram, features.T @ (target.double() - target.double().mean())))

    def forward(self, scores: Tensor) -> Tensor:
        """Return (B,) of scores (B, K)."""
        return self.features(scores) @ self.weight
