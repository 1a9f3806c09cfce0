"""What a model gets to see at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B sequences, padded to a common length L.

    tokens: (B, L) int64, 0 at padding.
    mask: (B, L) bool, False at padding.
    region: (B, L) bool, True where the variants of the dataset differ; never at padding.
    target: (B,) float32, in the task's units.
    index: (B,) int64, the rows in the prepared split.
    """

    tokens: Tensor
    mask: Tensor
    region: Tensor
    target: Tensor
    index: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; nothing is copied if it is there."""
        device = torch.device(device)
        if self.tokens.device == device:
            return self
        return Batch(
            tokens=self.tokens.to(device),
            mask=self.mask.to(device),
            region=self.region.to(device),
            target=self.target.to(device),
            index=self.index.to(device),
        )

    def __len__(self) -> int:
        """Return B."""
        return len(self.target)
