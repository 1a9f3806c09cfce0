"""Pooled features, all in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PooledFeatures:
    """Pooled features of N rows in memory: values (N, D) float32 or bfloat16."""

    values: Tensor
    n_computed: int

    @property
    def n_bytes(self) -> int:
        """The size of the values."""
        return self.values.nbytes

    def to(self, device: torch.device | str) -> PooledFeatures:
        """Return the features on a device."""
        return PooledFeatures(values=self.values.to(device), n_computed=self.n_computed)

    def gather(self, rows: Tensor) -> Tensor:
        """From rows (b,) int64 to (b, D), on the device of the values."""
        return self.values.index_select(0, rows.to(self.values.device))
