"""Sums over the positions of two sequences: how unlike their residues are, weighted by how much a position matters."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from models.layers.one_hot import slices

Pairing = Callable[[Tensor, Tensor | float], Tensor]
"""What a position adds, given how unlike two residues are and the position's relevance (of the same shape, or 1)."""
_ALIKE = 2.0


def weighted(unlike: Tensor, relevance: Tensor | float) -> Tensor:
    """For a distance of sequences: as unlike as the residues are, times the relevance."""
    return unlike * relevance


def product_of(length_scale: Tensor | float) -> Pairing:
    """For the logarithm of a product over positions, of kernels between 1 and exp(-relevance / length_scale).

    A position's kernel is that least value plus the rest times exp(-2 unlike), both kernels of residues: so however
    unlike two residues are, one position alone never makes two sequences unrelated.
    """

    def pairing(unlike: Tensor, relevance: Tensor | float) -> Tensor:
        least = torch.exp(-torch.as_tensor(relevance, dtype=unlike.dtype, device=unlike.device) / length_scale)
        return -(least + (1 - least) * torch.exp(-_ALIKE * unlike)).log()

    return pairing


class SitePairs:
    """Sums for pairs with N sequences.

    Args:
        tokens: (N, L) int64, 0 at padding, which is a residue of its own.
        unlike: (T, T) float64, how unlike two tokens are; 0 for equal ones.
        relevance: (L,) float64, of each position; None: all are 1, as is that of positions beyond L.
    """

    def __init__(self, tokens: Tensor, unlike: Tensor, relevance: Tensor | None = None) -> None:
        self.device = tokens.device
        self.varies = (tokens != tokens[:1]).any(dim=0)
        self.unlike = unlike.to(tokens.device)
        self._length = tokens.shape[1]
        self._constant = tokens[0, ~self.varies]
        self._tokens = tokens[:, self.varies]
        self._relevance = None if relevance is None else relevance.to(tokens.device)[self.varies]
        self._columns = torch.zeros(self._tokens.shape[1], len(unlike), dtype=torch.bool, device=tokens.device)
        self._columns[torch.arange(len(self._columns), device=tokens.device), self._tokens] = True

    def __call__(self, tokens: Tensor, pairing: Pairing) -> Tensor:
        """Sums (B, N) float64 for sequences (B, L') int64, padded to any length."""
        here = functional.pad(tokens, (0, max(0, self._length - tokens.shape[1])))
        constant, beyond = here[:, : self._length][:, ~self.varies], here[:, self._length :]
        others = pairing(self.unlike[constant, self._constant], 1.0).sum(dim=1)
        others = others + pairing(self.unlike[beyond, torch.zeros_like(beyond)], 1.0).sum(dim=1)
        sums = others[:, None].repeat(1, len(self._tokens))
        for unlike, one_hot, position in self.pieces(here[:, : self._length][:, self.varies]):
            relevance = 1.0 if self._relevance is None else self._relevance[position]
            sums.addmm_(pairing(unlike, relevance), one_hot.T)
        return sums

    def among_themselves(self, pairing: Pairing) -> Tensor:
        """Sums (N, N) of the N sequences."""
        tokens = self._constant.new_zeros(len(self._tokens), self._length)
        tokens[:, ~self.varies], tokens[:, self.varies] = self._constant, self._tokens
        return self(tokens, pairing)

    def pieces(self, tokens: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For some varying positions at a time: what pairs with (B, V) tokens at these positions are made of.

        Each column stands for a residue that some of the N sequences have at a position: how unlike the B sequences'
        own residues are to it (B, P), which of the N have it (N, P), and its position's number among the V (P,).
        """
        tokens = self._tokens if tokens is None else tokens
        n_rows = max(len(tokens), len(self._tokens))
        for part in slices(self._tokens.shape[1], n_rows * len(self.unlike)):
            columns = self._columns[part]
            one_hot = functional.one_hot(self._tokens[:, part], len(self.unlike))[:, columns].double()
            position = torch.arange(self._tokens.shape[1], device=self.device)[part]
            yield self.unlike[tokens[:, part]][:, columns], one_hot, position.repeat_interleave(columns.sum(dim=1))
