"""From residues to a protein: the poolings that FLIP tried (Dallago et al. 2021, `baselines/models.py`)."""

import torch
from torch import Tensor, nn


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, D) in float32 of states (B, L, D) over the True positions of mask (B, L); zeros where none is."""
    weights = mask.unsqueeze(-1).float()
    # A product with zero would keep the NaN of a position that does not count.
    kept = states.float().masked_fill(~mask.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


class AttentionPooling(nn.Module):
    """FLIP's `Attention1d`: one learned score a position, softmax over the positions that count, weighted sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """The weighted mean (B, D) in float32 of states (B, L, D) over the True positions of mask (B, L)."""
        states = states.float().masked_fill(~mask.unsqueeze(-1), 0.0)
        with torch.autocast(states.device.type, enabled=False):  # a softmax of bfloat16 scores would tie
            scores = self.score(states).squeeze(-1).masked_fill(~mask, -torch.inf)
            attention = torch.softmax(scores, dim=1).unsqueeze(-1)
        return (attention * states).sum(dim=1)


def residues_only(mask: Tensor, n_prefix: int, n_suffix: int) -> Tensor:
    """The residues (B, L) among the tokens of mask (B, L): without those before the first and after the last one."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    n_tokens = mask.sum(dim=1, keepdim=True)
    return (positions >= n_prefix) & (positions < n_tokens - n_suffix)
