"""What score columns say of the targets, added to what a network says."""

from typing import Any

import torch
from torch import Tensor, nn

from models.layers.score_features import ScoreFeatures, keep_one_width


class ScoreHead(nn.Module):
    """A linear function of score columns, which begins as the ridge regression of the targets on them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = ScoreFeatures()
        self.weight = nn.Parameter(torch.zeros(0))  # of each feature, once the training rows are seen
        keep_one_width(self, "features", "weight")

    @torch.no_grad()
    def fit(self, scores: Tensor | None, target: Tensor) -> None:
        """Begin with what the training rows' scores (N, K) say of their targets (N,), with a penalty of 1."""
        self.features.fit(scores)
        features = self.features(scores)
        if features is None:
            raise ValueError("a score head was asked for, and there are no scores")
        gram = features.T @ features + torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
        found = torch.linalg.solve(gram, features.T @ (target.double() - target.double().mean()))
        self.weight = nn.Parameter(found.float())

    def forward(self, scores: Tensor | None) -> Tensor:
        """Return (B,) float32 of scores (B, K).

        Raises:
            UserError: The scores have not as many columns as those of training.
        """
        features: Tensor = self.features(scores)
        with torch.autocast(features.device.type, enabled=False):  # in bfloat16 neighbouring scores would be one
            return features.float() @ self.weight

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}weight")
        if saved is not None and saved.dim() == 1 and saved.shape != self.weight.shape:  # else an optimizer may have it
            self.weight = nn.Parameter(self.weight.new_zeros(len(saved)))
        super()._load_from_state_dict(state_dict, prefix, *args)
