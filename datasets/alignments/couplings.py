"""A pairwise model of an alignment: fields and couplings that maximise the penalised pseudo-likelihood.

The model, the penalties and their sizes are those of EVmutation (Hopf et al. 2017, doi:10.1038/nbt.3769) as its program
plmc has them: lambda_h = 0.01 for the square of each field, lambda_J = 0.01 (A - 1) (C - 1) for the square of each
coupling, with A = 20 letters and C columns; a gap is no letter and says nothing. Each column is fitted for itself and
the two estimates of a coupling are averaged (Ekeberg et al. 2014, doi:10.1016/j.jcp.2014.07.024), so that memory and
convergence are those of one column, not of all.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.alignments.one_hot import OnProgress, SparseOneHot, one_thread_each, weighted_counts
from datasets.common.errors import UserError

LAMBDA_H = 0.01
_TOGETHER = 4  # columns: their parameters stay in the processor's cache
_MAX_ITERATIONS = 100  # as EVcouplings
_TOLERANCE = 1e-4  # of the gradient for one effective sequence, which is a difference of frequencies
_MAX_COLUMNS = 1000  # 1.6 GB of couplings, of which three copies are held, and hours


def check_columns(n_columns: int) -> None:
    """Refuse, with a UserError, more columns than couplings can be fitted for."""
    if n_columns > _MAX_COLUMNS:
        raise UserError(
            f"The alignment has {n_columns:,} columns on the wild type; couplings are fitted for {_MAX_COLUMNS:,} at "
            "most: leave this score out, or cut the alignment to the domain that varies."
        )


def lambda_j(n_columns: int, n_letters: int) -> float:
    """Return the penalty of a squared coupling."""
    return 0.01 * (n_letters - 1) * (n_columns - 1)


class PseudoLikelihood:
    """The penalised negative log-pseudo-likelihood of columns given all others.

    codes: (N, C) uint8, letters below `n_letters`, others are gaps. weights: (N,). Numbers are of `dtype`.
    """

    def __init__(
        self, codes: NDArray[np.uint8], weights: NDArray[np.float64], n_letters: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.width = codes.shape[1] * n_letters
        self._n_letters = n_letters
        self._one_hot = SparseOneHot(codes, n_letters)
        self._codes = torch.from_numpy(codes.astype(np.int64))
        self._weights = torch.from_numpy(weights).to(dtype)
        self._lambda_j = lambda_j(codes.shape[1], n_letters)

    def __call__(self, columns: list[int], fields: Tensor, couplings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value, float64, and its gradients.

        fields: (k, A) of the k columns. couplings: (C * A, k * A), from the letters of all columns to those of the k;
        where a column meets itself they are zero, and so is the gradient. Summed over all columns, with couplings that
        are symmetric, the value is plmc's: each coupling then stands there twice, with half of its penalty.
        """
        k, n_letters = fields.shape
        observed = self._codes[:, columns]
        weights = self._weights[:, None] * (observed < n_letters)
        observed = observed.clamp(max=n_letters - 1)[..., None]
        log_p = (self._one_hot.times(couplings).view(-1, k, n_letters) + fields).log_softmax(-1)
        value = -(weights * log_p.gather(-1, observed)[..., 0]).sum(dtype=torch.float64)
        value += LAMBDA_H * fields.square().sum(dtype=torch.float64)
        value += self._lambda_j / 2 * couplings.square().sum(dtype=torch.float64)
        residual = log_p.exp_()
        residual.scatter_add_(-1, observed, torch.full_like(residual[..., :1], -1.0))
        residual *= weights[..., None]
        of_fields = residual.sum(0) + 2 * LAMBDA_H * fields
        of_couplings = self._one_hot.transposed_times(residual.view(len(residual), -1)) + self._lambda_j * couplings
        self.clear_own(columns, of_couplings)
        return value, of_fields, of_couplings

    def clear_own(self, columns: list[int], couplings: Tensor) -> None:
        """Set to zero, in couplings (C * A, k * A), where a column meets itself."""
        n = self._n_letters
        for place, column in enumerate(columns):
            couplings[column * n : (column + 1) * n, place * n : (place + 1) * n] = 0


def fit_couplings(
    codes: NDArray[np.uint8], weights: NDArray[np.float64], n_letters: int, threads: int, on_progress: OnProgress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return fields (C, A) and symmetric couplings (C, A, C, A) of codes (N, C) whose sequences have weights (N,)."""
    n_columns = codes.shape[1]
    likelihood = PseudoLikelihood(codes, weights, n_letters)
    counts = torch.from_numpy(weighted_counts(codes, weights, n_letters)).float()
    fields = (counts + 1).log()  # plmc's start: right, but for a pseudocount, for columns without couplings
    fields -= fields.mean(1, keepdim=True)
    n_effective = float(weights.sum())
    frequencies = counts.view(-1) / n_effective
    couplings = torch.zeros(n_columns * n_letters, n_columns * n_letters)
    blocks = range(0, n_columns, _TOGETHER)

    def fit(first: int) -> None:
        columns = list(range(first, min(first + _TOGETHER, n_columns)))
        own = slice(first * n_letters, (columns[-1] + 1) * n_letters)
        fields[columns], couplings[:, own] = _fitted(likelihood, columns, fields[columns], frequencies, n_effective)

    with one_thread_each(threads) as mapped:
        for n_done, _ in enumerate(mapped(fit, blocks), 1):
            on_progress("couplings", n_done, len(blocks))
    couplings += couplings.T.clone()
    couplings /= 2
    return fields.numpy(), couplings.numpy().reshape(n_columns, n_letters, n_columns, n_letters)


def _fitted(
    likelihood: PseudoLikelihood, columns: list[int], start: Tensor, frequencies: Tensor, n_effective: float
) -> tuple[Tensor, Tensor]:
    """Return the fields (k, A) and couplings (C * A, k * A) of the minimum for k columns.

    start: (k, A), fields that are right without couplings. frequencies: (C * A,), of the letters of all columns. What
    is moved are the couplings, and the fields plus what an average sequence's couplings add to them: in the plain
    parameters all couplings of a column together do what its field does, and convergence takes several times as long.
    """
    couplings = torch.zeros(likelihood.width, start.numel())
    centred = start.clone()
    parameters = [centred, couplings]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=_MAX_ITERATIONS, tolerance_grad=_TOLERANCE, history_size=10, line_search_fn="strong_wolfe"
    )

    def fields() -> Tensor:
        return centred - (frequencies @ couplings).view_as(centred)

    def evaluate() -> float:
        value, of_fields, of_couplings = likelihood(columns, fields(), couplings)
        of_couplings -= torch.outer(frequencies, of_fields.view(-1))
        likelihood.clear_own(columns, of_couplings)
        for parameter, gradient in zip(parameters, (of_fields, of_couplings), strict=True):
            parameter.grad = gradient / n_effective
        return value.item() / n_effective

    optimizer.step(evaluate)  # type: ignore[no-untyped-call]
    return fields(), couplings


def from_wild_type(
    fields: NDArray[np.float32], couplings: NDArray[np.float32], wild_codes: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return what mutations of a wild type with codes (C,) add to the model's energy, minus the wild type's.

    That is (C, A), what each adds alone, and (C * A, C * A), what two of them add besides, 0 where one of them is none.
    The energy is the sum of the fields and of each pair's coupling, so the higher the more probable. `couplings` is
    overwritten.
    """
    n_columns, n_letters = fields.shape
    every = np.arange(n_columns)
    with_wild = couplings[:, :, every, wild_codes]  # (C, A, C): of each letter with the wild type's at each column
    single = fields + with_wild.sum(2, dtype=np.float64)
    single -= single[every, wild_codes][:, None]
    both_wild = with_wild[every, wild_codes]
    couplings -= with_wild[..., None]
    couplings -= with_wild.transpose(2, 0, 1)[:, None]
    couplings += both_wild[:, None, :, None]
    return single, couplings.reshape(n_columns * n_letters, -1)
