"""Ridge regression on one-hot residues, FLIP's linear baseline, solved exactly."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datasets.batch import Batch
from models.bounds import PositiveFloat
from models.fitness_model import FitnessModel

MAX_ONE_HOT = 2**24  # entries of the one-hot form held at once: 128 MiB


class Ridge(FitnessModel):
    """Least squares on one-hot residues with an L2 penalty, in closed form; the intercept is not penalised.

    It collects the batches of the training epoch and solves after the last one: train it for one epoch.
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
        self.automatic_optimization = False
        n_tokens = self.tokenizer.n_tokens
        self.register_buffer("weight", torch.zeros(0, n_tokens, dtype=torch.float64))  # (L, n_tokens)
        self.register_buffer("intercept", torch.zeros((), dtype=torch.float64))
        self._seen: list[Batch] = []

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        tokens = _residues(batch)[:, : len(self.weight)]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return (self.weight[positions, tokens].sum(dim=1) + self.intercept).float()

    def configure_optimizers(self) -> list[Any]:
        """No optimizer: nothing is learnt step by step."""
        return []

    def on_train_epoch_start(self) -> None:
        """Forget the batches of an epoch that was cut off."""
        self._seen = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the batch; solve with the last one, because validation comes before the epoch's end."""
        self._seen.append(batch)
        if not self.trainer.is_last_batch:
            return
        length = max(seen.tokens.shape[1] for seen in self._seen)
        tokens = torch.cat([functional.pad(_residues(b), (0, length - b.tokens.shape[1])) for b in self._seen])
        target = torch.cat([seen.target for seen in self._seen]).double()
        with torch.autocast(tokens.device.type, enabled=False):
            self.weight, self.intercept = solve(tokens, target, self.alpha, self.tokenizer.n_tokens)
        for seen in self._seen:
            self.training_loss.update(self(seen), seen.target)
        self._seen = []

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # The weights have as many positions as the training data had: take the checkpoint's shape.
        if (weight := state_dict.get(prefix + "weight")) is not None:
            self.weight = self.weight.new_zeros(len(weight) if weight.dim() else 0, self.tokenizer.n_tokens)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _residues(batch: Batch) -> Tensor:
    return batch.tokens.masked_fill(~batch.mask, 0)


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


class OneHot:
    """Products with the (N, P) one-hot matrix of tokens (N, L), of which only slices are ever built."""

    def __init__(self, tokens: Tensor, columns: Tensor) -> None:
        self.tokens = tokens
        self.columns = columns  # (L, n_tokens) bool: which entries are the P columns

    def _row_slices(self) -> Iterator[tuple[slice, Tensor]]:
        n_tokens = self.columns.shape[1]
        for rows in _slices(len(self.tokens), self.columns.numel()):
            yield rows, functional.one_hot(self.tokens[rows], n_tokens)[:, self.columns]

    def gram(self) -> Tensor:
        """How often each two columns are 1 in the same sequence (P, P) float64."""
        return sum((part.float().T @ part.float()).double() for _, part in self._row_slices())  # type: ignore

    def transposed_times(self, vector: Tensor) -> Tensor:
        """Sums (P,) of vector (N,) over the sequences with a 1 in each column."""
        return sum(part.double().T @ vector[rows] for rows, part in self._row_slices())  # type: ignore

    def kernel(self) -> Tensor:
        """In how many of the P columns each two sequences are both 1 (N, N) float64."""
        n, n_tokens = len(self.tokens), self.columns.shape[1]
        kernel = self.tokens.new_zeros(n, n, dtype=torch.float64)
        for positions in _slices(self.tokens.shape[1], n * n_tokens):
            part = functional.one_hot(self.tokens[:, positions], n_tokens)[:, self.columns[positions]].float()
            kernel += (part @ part.T).double()
        return kernel


def _slices(length: int, entries_each: int) -> Iterator[slice]:
    step = max(1, MAX_ONE_HOT // max(1, entries_each))
    return (slice(start, start + step) for start in range(0, length, step))


def _solve_positive(matrix: Tensor, right: Tensor, alpha: float) -> Tensor:
    matrix = matrix + alpha * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    solution: Tensor
    if failed:  # alpha is lost in rounding: the solution of least norm
        solution = torch.linalg.pinv(matrix, hermitian=True) @ right
    else:
        solution = torch.cholesky_solve(right[:, None], factor).squeeze(1)
    return solution
