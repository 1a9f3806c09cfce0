"""Ridge regression on one-hot residues, FLIP's linear baseline, solved exactly."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from models.bounds import PositiveFloat
from models.closed_form import ClosedForm, residues
from models.layers.one_hot import OneHot, seen_residues


class Ridge(ClosedForm):
    """Least squares on one-hot residues with an L2 penalty, in closed form; the intercept is not penalised.

    Positions beyond the longest training sequence, and residues not seen at a position in training, add
    nothing to a prediction.

    Args:
        alpha: the penalty, in the units of scikit-learn's `Ridge(alpha=...)`, whose solution this equals.
    """

    weight: Tensor
    intercept: Tensor

    def __init__(self, *, alpha: PositiveFloat) -> None:
        super().__init__()
        self.alpha = alpha
        n_tokens = self.tokenizer.n_tokens
        self.data_shapes = {"weight": (None, n_tokens)}
        self.register_buffer("weight", torch.zeros(0, n_tokens, dtype=torch.float64))  # (L, n_tokens)
        self.register_buffer("intercept", torch.zeros((), dtype=torch.float64))

    @classmethod
    def can_rank(cls, residues: NDArray[np.uint8], training: NDArray[np.uint8]) -> bool:
        """As for other models: it knows of a position what training shows at that position."""
        return bool(np.ptp(seen_residues(residues, training), axis=0).any())

    @property
    def n_parameters(self) -> int:
        """A weight for each residue that some training sequences have at a position and others lack; the intercept."""
        return int(torch.count_nonzero(self.weight)) + 1 if len(self.weight) else 0

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        tokens = residues(batch)[:, : len(self.weight)]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return (self.weight[positions, tokens].sum(dim=1) + self.intercept).float()

    def solve(self, tokens: Tensor, target: Tensor, scores: Tensor | None = None) -> None:
        """Find weight and intercept."""
        self.weight, self.intercept = solve(tokens, target, self.alpha, self.tokenizer.n_tokens)


def solve(tokens: Tensor, target: Tensor, alpha: float, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Ridge regression of target (N,) float64 on the one-hot form of tokens (N, L) int64, token 0 being none.

    Only the P columns of the one-hot form that vary between sequences are used: the others are zero once they
    are centred, and so is their weight. The matrices of the normal equations (P, P), or of their dual (N, N)
    where that is smaller, hold counts, which float32 adds exactly; they are centred and solved in float64.

    Returns:
        weight (L, n_tokens) and intercept () in float64.
    """
    n, length = tokens.shape
    first_code = torch.arange(length, device=tokens.device) * n_tokens
    counts = torch.bincount((tokens + first_code).flatten(), minlength=length * n_tokens).view(length, n_tokens)
    varying = (counts > 0) & (counts < n)
    varying[:, 0] = False
    used = varying.any(dim=1)
    weight = torch.zeros(length, n_tokens, dtype=torch.float64, device=tokens.device)
    mean = counts[varying].double() / n  # (P,) of the one-hot columns
    one_hot = OneHot(tokens[:, used], varying[used])
    centred = target - target.mean()
    if len(mean) <= n:
        gram = one_hot.gram() - n * mean.outer(mean)
        weight[varying] = _solve_positive(gram, one_hot.transposed_times(centred), alpha)
    else:
        kernel = one_hot.kernel()
        kernel = kernel - kernel.mean(dim=0) - kernel.mean(dim=1, keepdim=True) + kernel.mean()
        weight[varying] = one_hot.transposed_times(_solve_positive(kernel, centred, alpha))
    return weight, target.mean() - mean @ weight[varying]


def _solve_positive(matrix: Tensor, right: Tensor, alpha: float) -> Tensor:
    matrix = matrix + alpha * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    solution: Tensor
    if failed:  # alpha is lost in rounding: the solution of least norm
        solution = torch.linalg.pinv(matrix, hermitian=True) @ right
    else:
        solution = torch.cholesky_solve(right[:, None], factor).squeeze(1)
    return solution
