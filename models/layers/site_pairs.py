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

    A position adds what it would if one of the two had the commonest residue there, and the other likewise; only where
    both differ from it, the sum has to be put right. So the cost follows from the number of mutations, not the length.

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
        ones = self.unlike.new_ones(self._tokens.shape[1])
        self._relevance = ones if relevance is None else relevance.to(tokens.device)[self.varies]
        counts = torch.stack([(self._tokens == token).sum(dim=0) for token in range(len(unlike))], dim=1)
        self._commonest = counts.argmax(dim=1)
        # A column is a residue, other than the commonest, that some of the N sequences have at a position.
        counts.scatter_(1, self._commonest[:, None], 0)
        self._position, self._token = counts.nonzero(as_tuple=True)
        row, position = (self._tokens != self._commonest).nonzero(as_tuple=True)
        number = counts.flatten().gt(0).cumsum(dim=0).view_as(counts) - 1
        self._mutations = row, number[position, self._tokens[row, position]]

    def __call__(self, tokens: Tensor, pairing: Pairing) -> Tensor:
        """Sums (B, N) float64 for sequences (B, L') int64, padded to any length."""
        here = functional.pad(tokens, (0, max(0, self._length - tokens.shape[1])))
        constant, beyond = here[:, : self._length][:, ~self.varies], here[:, self._length :]
        others = pairing(self.unlike[constant, self._constant], 1.0).sum(dim=1)
        others = others + pairing(self.unlike[beyond, torch.zeros_like(beyond)], 1.0).sum(dim=1)
        return self._sums(here[:, : self._length][:, self.varies], pairing, self._relevance).add_(others[:, None])

    def among_themselves(self, pairing: Pairing, relevance: Tensor | None = None) -> Tensor:
        """Sums (N, N) of the N sequences, which can be derived by the `relevance` (V,) of the positions that vary."""
        return self._sums(self._tokens, pairing, self._relevance if relevance is None else relevance)

    def _sums(self, tokens: Tensor, pairing: Pairing, relevance: Tensor) -> Tensor:
        """Sums (B, N) over the V positions that vary, of B sequences with tokens (B, V) there."""
        site = torch.arange(len(relevance), device=self.device)
        table = pairing(self.unlike.expand(len(relevance), -1, -1), relevance[:, None, None])  # (V, T, T)
        to_commonest = table[site, :, self._commonest]  # (V, T)
        sums = to_commonest[site, tokens].sum(dim=1)[:, None] + to_commonest[site, self._tokens].sum(dim=1)
        for position, token, mutated in self._columns(len(tokens)):
            both = table[position, :, token]  # (P, T)
            more = both - to_commonest[position] - to_commonest[position, token][:, None]
            sums = sums.add_((mutated @ more.gather(1, tokens[:, position].T)).T)
        return sums

    def _columns(self, n_rows: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some columns at a time: the position and the token of each (P,), and which of the N sequences have it (N, P).

        That is a sparse matrix, but for a GPU, which would add up its products in no fixed order.
        """
        row, column = self._mutations
        for part in slices(len(self._token), n_rows):
            last = min(part.stop, len(self._token))
            is_here = (column >= part.start) & (column < last)
            index = torch.stack([row[is_here], column[is_here] - part.start])
            size = len(self._tokens), last - part.start
            ones = self.unlike.new_ones(index.shape[1])
            # torch 2.11 warns where nobody has chosen, even of `check_invariants=False`.
            with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
                mutated = torch.sparse_coo_tensor(index, ones, size).coalesce()
            yield self._position[part], self._token[part], mutated.to_dense() if mutated.is_cuda else mutated
