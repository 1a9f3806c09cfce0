"""Ridge regression on one-hot residues, FLIP's linear baseline, solved exactly."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from models.bounds import PositiveFloat
from models.closed_form import ClosedForm, residues
from models.layers.embedding_features import EmbeddingFeatures
from models.layers.one_hot import OneHot, seen_residues
from models.layers.score_features import ScoreFeatures, keep_one_width

_ROWS = 8192  # at a time


class Ridge(ClosedForm):
    """Least squares on one-hot residues with an L2 penalty, in closed form; the intercept is not penalised.

    Positions beyond the longest training sequence, and residues not seen at a position in training, add
    nothing to a prediction.

    With scores it is the augmented ridge of Hsu et al. (Nature Biotechnology 40, 2022): they are features besides the
    residues, with a penalty of their own.

    Args:
        alpha: the penalty, in the units of scikit-learn's `Ridge(alpha=...)`, whose solution this equals.
        score_alpha: their penalty: a small one lets the residues explain what the scores do not.
        embeddings: whether it sees those of a file: `none`, `both` (beside the residues), or `alone` (in their place).
        embedding_alpha: their penalty, on features whose mean squared length is 1 (`EmbeddingFeatures`).
    """

    weight: Tensor
    intercept: Tensor
    score_weight: Tensor
    embedding_weight: Tensor

    # A default here is what the model was before it had the argument: older configs lack it.
    def __init__(
        self,
        *,
        alpha: PositiveFloat,
        score_alpha: PositiveFloat = 1.0,
        embeddings: Literal["none", "both", "alone"] = "none",
        embedding_alpha: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = embedding_alpha if embeddings == "alone" else alpha  # of what is solved for
        self.score_alpha = score_alpha
        self.embeddings = embeddings
        self.embedding_alpha = embedding_alpha
        self.embedding_scope = None if embeddings == "none" else "mean"
        self.embedding_features: EmbeddingFeatures | None = None
        self.score_features: ScoreFeatures | None = None
        n_tokens = self.tokenizer.n_tokens
        self.data_shapes = {"weight": (None, n_tokens)}
        self.register_buffer("weight", torch.zeros(0, n_tokens, dtype=torch.float64))  # (L, n_tokens)
        self.register_buffer("intercept", torch.zeros((), dtype=torch.float64))

    def take_scores(self) -> None:
        """As for other models."""
        self.score_features = ScoreFeatures()
        self.data_shapes = {**self.data_shapes, "score_weight": (None,)}
        self.register_buffer("score_weight", torch.zeros(0, dtype=torch.float64))
        keep_one_width(self, "score_features", "score_weight")

    def take_embeddings(self, width: int) -> None:
        """As for other models."""
        self.embedding_features = EmbeddingFeatures(width)
        self.register_buffer("embedding_weight", torch.zeros(width, dtype=torch.float64))

    def can_rank(self, residues: NDArray[np.uint8], training: NDArray[np.uint8], *, has_scores: bool = False) -> bool:
        """As for other models: it knows of a position what training shows there, and embeddings tell all apart."""
        if self.embedding_scope is not None:
            return True
        return has_scores or bool(np.ptp(seen_residues(residues, training), axis=0).any())

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """That of a Cholesky decomposition, of the residues at all positions or of the rows."""
        return min(n_rows, longest * self.tokenizer.n_tokens) ** 3 // 6

    @property
    def n_parameters(self) -> int:
        """A weight for each residue that some training sequences have at a position and others lack; the intercept."""
        n_others = 0 if self.score_features is None else len(self.score_weight)
        n_others += 0 if self.embedding_features is None else len(self.embedding_weight)
        return int(torch.count_nonzero(self.weight)) + 1 + n_others if len(self.weight) else 0

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        tokens = residues(batch)[:, : len(self.weight)]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        prediction = self.weight[positions, tokens].sum(dim=1) + self.intercept
        features = None if self.score_features is None else self.score_features(batch.scores)
        if features is not None:
            prediction = prediction + features @ self.score_weight
        if self.embedding_features is not None:
            prediction = prediction + self.embedding_features(batch.features).double() @ self.embedding_weight
        return prediction.float()

    def solve(
        self,
        tokens: Tensor,
        target: Tensor,
        scores: Tensor | None = None,
        embeddings: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Find weights and intercept."""
        # Features that are larger by a scale, with the residues' penalty, are those features with their own.
        blocks, score_scale, embedding_scale = [], (self.alpha / self.score_alpha) ** 0.5, 1.0
        if self.score_features is not None:
            self.score_features.fit(scores)
            features = self.score_features(scores)
            if features is not None:
                blocks.append(features * score_scale)
        n_scores = blocks[0].shape[1] if blocks else 0
        if self.embedding_features is not None:
            assert embeddings is not None
            self.embedding_features.fit([embeddings])
            embedding_scale = (self.alpha / self.embedding_alpha) ** 0.5
            blocks = [*(block.float() for block in blocks), self.embedding_features(embeddings).mul_(embedding_scale)]
        if self.embeddings == "alone":
            tokens = torch.zeros_like(tokens[:, :1])
        beside = None if not blocks else blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
        n_tokens = self.tokenizer.n_tokens
        self.weight, self.intercept, found = solve(tokens, target, self.alpha, n_tokens, beside, weight)
        if self.score_features is not None:
            self.score_weight = found[:n_scores] * score_scale
        if self.embedding_features is not None:
            self.embedding_weight = found[n_scores:] * embedding_scale


def solve(
    tokens: Tensor,
    target: Tensor,
    alpha: float,
    n_tokens: int,
    features: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge regression of target (N,) float64 on the one-hot form of tokens (N, L) int64, token 0 being none.

    Only the P columns of the one-hot form that vary between sequences are used: the others are zero once they
    are centred, and so is their weight. The matrices of the normal equations (P, P), or of their dual (N, N)
    where that is smaller, hold counts, which float32 adds exactly; they are centred and solved in float64.

    The `features` (N, K), of mean 0, are further columns with the same penalty; None is no columns. Embeddings come in
    float32, and are not held in float64 as a whole. Each row counts by its `weight` (N,), 1 on average; None: all are
    alike.

    Returns:
        weight (L, n_tokens), intercept () and the features' weight (K,) in float64.
    """
    features = target.new_zeros(len(target), 0) if features is None else features
    n, length = tokens.shape
    first_code = torch.arange(length, device=tokens.device) * n_tokens
    counts = torch.bincount((tokens + first_code).flatten(), minlength=length * n_tokens).view(length, n_tokens)
    varying = (counts > 0) & (counts < n)
    varying[:, 0] = False
    used = varying.any(dim=1)
    if weight is not None:
        return _solve_weighted(tokens, target, alpha, features, weight, varying, used)
    found_weight = torch.zeros(length, n_tokens, dtype=torch.float64, device=tokens.device)
    mean = counts[varying].double() / n  # (P,) of the one-hot columns
    one_hot = OneHot(tokens[:, used], varying[used])
    centred = target - target.mean()
    if len(mean) + features.shape[1] <= n:
        gram = one_hot.gram() - n * mean.outer(mean)
        right = one_hot.transposed_times_kept(centred)
        if features.shape[1]:
            across = one_hot.transposed_times(features)
            own = _products(features, features)
            gram = torch.cat([torch.cat([gram, across], dim=1), torch.cat([across.T, own], dim=1)])
            right = torch.cat([right, _products(features, centred)])
        found = _solve_positive(gram, right, alpha)
        found_weight[varying], of_features = found[: len(mean)], found[len(mean) :]
    else:
        kernel = one_hot.kernel()
        kernel = kernel - kernel.mean(dim=0) - kernel.mean(dim=1, keepdim=True) + kernel.mean()
        if features.shape[1]:
            kernel = kernel + features.double() @ features.double().T
        dual = _solve_positive(kernel, centred, alpha)
        found_weight[varying], of_features = one_hot.transposed_times(dual), _products(features, dual)
    return found_weight, target.mean() - mean @ found_weight[varying], of_features


def _solve_weighted(
    tokens: Tensor,
    target: Tensor,
    alpha: float,
    features: Tensor,
    weight: Tensor,
    varying: Tensor,
    used: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `solve`, of rows (N,) that count by their weight: columns and targets are centred by their weighted means."""
    n = len(tokens)
    one_hot = OneHot(tokens[:, used], varying[used])
    share = weight / weight.sum()
    mean, features_mean, target_mean = one_hot.transposed_times(share), _products(features, share), share @ target
    centred, features = target - target_mean, features.double() - features_mean
    found_weight = torch.zeros(varying.shape, dtype=torch.float64, device=tokens.device)
    if len(mean) + features.shape[1] <= n:
        gram = one_hot.gram(weight) - weight.sum() * mean.outer(mean)
        right = one_hot.transposed_times(weight * centred)  # whose sum is 0, so that the mean takes no part
        if features.shape[1]:
            across = one_hot.transposed_times(weight[:, None] * features)
            own = features.T @ (weight[:, None] * features)
            gram = torch.cat([torch.cat([gram, across], dim=1), torch.cat([across.T, own], dim=1)])
            right = torch.cat([right, features.T @ (weight * centred)])
        found = _solve_positive(gram, right, alpha)
        found_weight[varying], of_features = found[: len(mean)], found[len(mean) :]
    else:
        root = weight.sqrt()
        kernel = one_hot.kernel()
        with_mean = kernel @ share
        kernel = kernel - with_mean - with_mean[:, None] + share @ with_mean + features @ features.T
        dual = root * _solve_positive(root[:, None] * kernel * root, root * centred, alpha)
        found_weight[varying], of_features = one_hot.transposed_times(dual), features.T @ dual
    return found_weight, target_mean - mean @ found_weight[varying] - features_mean @ of_features, of_features


def _products(features: Tensor, others: Tensor) -> Tensor:
    """features.T @ others in float64, some thousand rows of float32 at a time."""
    if features.dtype == torch.float64:
        return features.T @ others.double()
    parts = zip(torch.split(features, _ROWS), torch.split(others, _ROWS), strict=True)
    found: Tensor = sum(some.double().T @ other.double() for some, other in parts)  # type: ignore[assignment]
    return found


def _solve_positive(matrix: Tensor, right: Tensor, alpha: float) -> Tensor:
    matrix = matrix + alpha * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    solution: Tensor
    if failed:  # alpha is lost in rounding: the solution of least norm
        solution = torch.linalg.pinv(matrix, hermitian=True) @ right
    else:
        solution = torch.cholesky_solve(right[:, None], factor).squeeze(1)
    return solution
