"""What an encoder is to the feature cache, and what a model's data gets back from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Scope = Literal["mean", "region", "tokens"]
"""Mean over the residues (D,), mean over the region's positions (D,), or all tokens (L, D)."""


class Encoder(Protocol):
    """A frozen function of tokens.

    key: Names the function: weights, layer, precision, kind of machine. Equal keys have to mean equal bits.
    width: D, values a token.
    n_prefix: Tokens before the first residue. n_suffix: tokens after the last.
    linker: The token between chains, which poolings leave out; an encoder may lack it.
    dtype: What is kept of its output: float32 or bfloat16.
    """

    key: str
    width: int
    n_prefix: int
    n_suffix: int
    dtype: torch.dtype

    def release(self) -> None:
        """Give back what is only needed while sequences are encoded."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """From (n, T) int64 on the CPU, 0 at padding, to (n, T, D) on any device.

        A row's output must not depend on the other rows of the batch, nor on its place among them.
        """


class Features(Protocol):
    """Frozen features of the N rows of a call."""

    @property
    def n_computed(self) -> int:
        """How many sequences had to be passed through the encoder so far: 0 when all were cached."""

    @property
    def n_bytes(self) -> int:
        """How much memory `to` takes on the device."""

    @property
    def values(self) -> Tensor | None:
        """Pooled features (N, D) where they are held in memory, None for tokens."""

    def to(self, device: torch.device | str) -> Features:
        """Return the features held in the device's memory, from which `gather` then picks."""

    def gather(self, rows: Tensor) -> Tensor:
        """From rows (b,) int64 to features (b, D), or (b, longest, D) with zeros at padding."""


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


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """What `encoder` computes is kept by `scope`; `also` are scopes worth keeping from the same pass; `what` is its
    name for the user.
    """

    encoder: Encoder
    scope: Scope
    also: Sequence[Scope]
    what: str
