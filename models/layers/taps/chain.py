"""Layers one after another whose gradients are written out: autograd calls them once, whatever they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

_LANES = 16  # numbers of float32 that a core multiplies at once
_MANY = 2**16  # with fewer factors, to make them wider takes longer than it saves


class Layer(Protocol):
    """One use of a layer: `forward` is called once and keeps what `backward` needs."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""

    def forward(self, states: Tensor | None) -> Tensor:
        """What the layer makes of what comes before it; None before the first one."""

    def backward(self, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of what came before (None: there was nothing), then that of each parameter."""


def chained(layers: Sequence[Layer]) -> Tensor:
    """What comes out of the last of the layers, each of which gets what comes out of the one before."""
    parameters = [parameter for layer in layers for parameter in layer.parameters]
    if torch.is_grad_enabled():
        return _Chain.apply(layers, *parameters)  # type: ignore[no-any-return, no-untyped-call]
    return _through(layers)


def _through(layers: Sequence[Layer]) -> Tensor:
    states: Tensor | None = None
    for layer in layers:
        states = layer.forward(states)
    assert states is not None
    return states


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: Sequence[Layer], *parameters: Tensor) -> Tensor:
        ctx.layers = layers
        return _through(layers)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_parameters: list[Tensor | None] = []
        before: Tensor | None = gradient
        for layer in reversed(ctx.layers):
            assert before is not None
            before, *own = layer.backward(before)
            of_parameters[:0] = own
        return None, *of_parameters


def sums(table: Tensor, rows: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums (n, C) of a table's rows, (m,) of one after another, that begin at offsets (n,); each times its weight (m,).

    It is the forward part of `embedding_bag`, which for itself takes a multiple of its time.
    """
    found: Tensor = torch._embedding_bag_forward_only(table, rows, offsets, False, 0, False, weights)[0]
    return found


def product(left: Tensor, right: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The product (m, n) of left (m, k) and right (k, n), whose numbers are rounded to `dtype` if there is one."""
    if dtype is not None:
        return (left.to(dtype) @ right.to(dtype)).to(left.dtype)
    n = right.shape[1]
    if n % _LANES and n < len(right) < len(left) and left.numel() > _MANY:
        # Of many rows that become narrow ones, those that end within a register cost up to half as much again.
        wide = right.new_zeros(len(right), n + -n % _LANES)
        wide[:, :n] = right
        return torch.mm(left, wide)[:, :n]
    return torch.mm(left, right)


def dtype_of_products(like: Tensor) -> torch.dtype | None:
    """What autocast rounds the factors of products to; None where it is off."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
