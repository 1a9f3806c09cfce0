"""Parts of a covariance that do not go position by position: of what sequences are made, and of where they are mutated.

Each is built of the N training sequences; `covariances` gives (B, N) with others, `variances` (B,) theirs alone, and
`to` a part that gives the same with other sequences in their place.
"""

import copy
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional


class CompositionPart:
    """An RBF kernel over the sums of the residues' vectors, wherever they stand.

    Two single mutants are alike if what they exchange is alike: what a mutation to proline does anywhere is known from
    elsewhere, so that positions without a training variant can be predicted at all.

    Args:
        tokens: (N, L) int64 of the training sequences.
        vectors: (T, F) of the tokens; see `models.layers.amino_acids.residue_vectors`.
        length_scale: in usual substitutions: at this distance the covariance has fallen to 1/e.
    """

    def __init__(self, tokens: Tensor, vectors: Tensor, *, variance: float, length_scale: float) -> None:
        self._vectors = vectors.to(tokens.device)
        self._variance, self._length_scale = variance, length_scale
        self._training = self._sums(tokens)

    def covariances(self, tokens: Tensor) -> Tensor:
        """(B, N) float64."""
        return rbf(self._sums(tokens), self._training, self._length_scale).mul_(self._variance)

    def variances(self, tokens: Tensor) -> Tensor:
        """(B,) float64."""
        return self._training.new_full((len(tokens),), self._variance)

    def to(self, tokens: Tensor) -> Self:
        """For other sequences (B, L) in the place of the training sequences."""
        other = copy.copy(self)
        other._training = self._sums(tokens)
        return other

    def _sums(self, tokens: Tensor) -> Tensor:
        counts = [(tokens == token).sum(dim=1) for token in range(1, len(self._vectors))]
        return torch.stack(counts, dim=1).double() @ self._vectors[1:]


class PlacePart:
    """An effect of being mutated at a position, whatever the residue, that is like its neighbours' along the sequence.

    The effects are a Gaussian process with the covariance variance * exp(-|distance| / width); those of the positions
    at which a sequence differs from the commonest residue of training add up.

    Args:
        tokens: (N, L) int64 of the training sequences.
        width: in residues.
    """

    def __init__(self, tokens: Tensor, n_tokens: int, *, variance: float, width: float) -> None:
        counts = torch.stack([(tokens == token).sum(dim=0) for token in range(n_tokens)])
        self._commonest = counts.argmax(dim=0)
        self._variance, self._width = variance, width
        self._see(tokens)

    def covariances(self, tokens: Tensor) -> Tensor:
        """(B, N) float64."""
        mutated = self._mutated(tokens)
        return (self._training @ (mutated @ self._kernel(mutated.shape[1], self._length)).T).T

    def variances(self, tokens: Tensor) -> Tensor:
        """(B,) float64."""
        mutated = self._mutated(tokens)
        return ((mutated @ self._kernel(mutated.shape[1], mutated.shape[1])) * mutated).sum(dim=1)

    def to(self, tokens: Tensor) -> Self:
        """For other sequences (B, L) in the place of the training sequences, whose commonest residues still count."""
        other = copy.copy(self)
        other._see(tokens)
        return other

    def _see(self, tokens: Tensor) -> None:
        mutated = self._mutated(tokens)
        self._length = mutated.shape[1]
        # On a GPU products with a sparse matrix are added up in no fixed order.
        self._training = mutated if mutated.is_cuda else mutated.to_sparse()

    def _mutated(self, tokens: Tensor) -> Tensor:
        length = max(tokens.shape[1], len(self._commonest))
        commonest = functional.pad(self._commonest, (0, length - len(self._commonest)))
        return (functional.pad(tokens, (0, length - tokens.shape[1])) != commonest).double()

    def _kernel(self, n_rows: int, n_columns: int) -> Tensor:
        places = torch.arange(max(n_rows, n_columns), dtype=torch.float64, device=self._commonest.device)
        return self._variance * torch.exp(-(places[:n_rows, None] - places[:n_columns]).abs() / self._width)


def rbf(rows: Tensor, others: Tensor, length_scale: float) -> Tensor:
    """exp(-half the squared distance / length_scale) of rows (B, F) and others (N, F): (B, N)."""
    squares = rows.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * rows @ others.T
    return squares.clamp_(min=0).div_(-2 * length_scale).exp_()
