"""Global epistasis: an additive latent phenotype, seen through a monotone curve (Otwinowski et al. 2018)."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from datasets.batches.batch import Batch
from models.bounds import Interval, NonNegativeFloat, PositiveFloat
from models.fitness_model import FitnessModel
from models.hooks import with_gaps
from models.layers.one_hot import seen_residues
from models.layers.score_head import ScoreHead
from models.ridge import Ridge

_FIRST_PAIRS = 0.01  # deviation of the factors of pairs before training


class MonotoneCurve(nn.Module):
    """From a latent phenotype (B,) to a standardised fitness (B,): a rising line and rising tanh units, added up.

    All slopes are kept positive by a softplus, so that the curve never falls.
    """

    def __init__(self, n_units: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        self.slope = nn.Parameter(_inverse_softplus(torch.tensor(0.7)))
        self.heights = nn.Parameter(_inverse_softplus(torch.full((n_units,), 0.5 / max(1, n_units))))
        self.slopes = nn.Parameter(_inverse_softplus(torch.ones(n_units)))
        self.centres = nn.Parameter(torch.linspace(-1.5, 1.5, n_units) if n_units > 1 else torch.zeros(n_units))

    def forward(self, latent: Tensor) -> Tensor:
        """Fitness (B,) of latent (B,)."""
        steps = torch.tanh(functional.softplus(self.slopes) * (latent[:, None] - self.centres))
        line = self.offset + functional.softplus(self.slope) * latent
        return line + steps @ functional.softplus(self.heights)


class Epistasis(FitnessModel):
    """A weight for each residue at each position, low-rank interactions of pairs, and a monotone curve on their sum.

    The latent phenotype is the sum of the residues' weights, and of the products of the factors of each two residues
    (Tareen et al. 2022, MAVE-NN, has a free weight for each pair instead). A curve that never falls turns it into
    fitness. Training begins with the ridge regression of the targets and a nearly straight curve, and goes on with
    Adam. As for ridge, residues that no training sequence has at a position add nothing, nor do positions beyond the
    longest sequence; padding has no weight.

    Args:
        rank: R, the factors of a residue that make the interactions of pairs; 0 leaves pairs out.
        n_units: tanh units of the curve; 0 leaves a straight line.
        alpha: L2 penalty on the residues' weights, in the units of `Ridge`.
        pair_alpha: that on the factors of pairs.
        lr: Adam's learning rate.
    """

    varies: Tensor
    bias: Tensor
    location: Tensor
    unit: Tensor

    def __init__(
        self,
        *,
        rank: Annotated[int, Interval(ge=0, limit=256)],
        n_units: Annotated[int, Interval(ge=0, limit=1024)],
        alpha: PositiveFloat,
        pair_alpha: NonNegativeFloat,
        lr: PositiveFloat,
    ) -> None:
        super().__init__()
        n_tokens = self.tokenizer.n_tokens
        self.data_shapes = {"weight": (None, n_tokens), "factors": (None, n_tokens, rank), "varies": (None, n_tokens)}
        self.rank = rank
        self.alpha = alpha
        self.pair_alpha = pair_alpha
        self.lr = lr
        self.weight = nn.Parameter(torch.zeros(0, n_tokens))  # (L, n_tokens), once lengths are seen
        self.factors = nn.Parameter(torch.zeros(0, n_tokens, rank))
        self.curve = MonotoneCurve(n_units)
        self.scores: ScoreHead | None = None
        self.register_buffer("varies", torch.zeros(0, n_tokens))  # 1 where some training sequences have the residue
        self.register_buffer("bias", torch.zeros(()))  # of the latent phenotype; the curve's own moves it
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        self._n_train = 1

    def can_rank(self, residues: NDArray[np.uint8], training: NDArray[np.uint8], *, has_scores: bool = False) -> bool:
        """As for ridge: it knows of a position what training shows at that position, and what score columns say."""
        return has_scores or bool(np.ptp(seen_residues(residues, training), axis=0).any())

    @property
    def n_parameters(self) -> int:
        """Weight and factors of each residue that varies at its position, and those of curve and score columns."""
        others = [self.curve] if self.scores is None else [self.curve, self.scores]
        n_others = sum(parameter.numel() for part in others for parameter in part.parameters())
        return int(torch.count_nonzero(self.varies)) * (1 + self.rank) + n_others

    def take_scores(self) -> None:
        """Add score columns to the latent phenotype."""
        self.scores = ScoreHead()

    def see_lengths(self, lengths: Tensor) -> None:
        """Draw the factors of all positions that there are."""
        longest, n_tokens = int(lengths.max()), self.tokenizer.n_tokens
        self.weight = nn.Parameter(torch.zeros(longest, n_tokens))
        self.factors = nn.Parameter(_FIRST_PAIRS * torch.randn(longest, n_tokens, self.rank))
        self.varies = torch.zeros(longest, n_tokens)

    @torch.no_grad()
    def see_rows(self, rows: Callable[[], Batch]) -> None:
        """Begin with ridge regression of the standardised targets, on what score columns leave of them."""
        training = rows()
        tokens, n_tokens = _padded(training, len(self.weight)).long(), self.tokenizer.n_tokens
        self._n_train = len(training)
        target = self.in_own_unit(training.target).double()
        deviation = target.std(correction=0)
        self.location.copy_(target.mean())
        self.unit.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))
        standardised = (target - self.location) / self.unit
        if self.scores is not None:
            self.scores.fit(training.scores, standardised)
            standardised = standardised - self.scores(training.scores)
        codes = tokens + n_tokens * torch.arange(tokens.shape[1], device=tokens.device)
        counts = torch.bincount(codes.flatten(), minlength=self.weight.numel()).view_as(self.weight)
        self.varies.copy_((counts > 0) & (counts < len(tokens)))
        self.varies[:, 0] = 0
        with with_gaps(self.has_gaps):
            ridge = Ridge(alpha=self.alpha).to(tokens.device)
        ridge.solve(tokens, standardised, weight=None if training.weight is None else training.weight.double())
        self.weight.copy_(ridge.weight)
        self.bias.copy_(ridge.intercept)

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        with torch.autocast(batch.tokens.device.type, enabled=False):
            prediction: Tensor = self.location + self.unit * self.curve(self.latent(batch))
        return prediction

    def latent(self, batch: Batch) -> Tensor:
        """The latent phenotype (B,)."""
        tokens = _padded(batch, len(self.weight))
        codes = tokens + self.tokenizer.n_tokens * torch.arange(tokens.shape[1], device=tokens.device)
        columns = [self.weight[..., None]]
        if self.rank:
            columns += [self.factors, self.factors.square().sum(dim=-1, keepdim=True)]
        table = (torch.cat(columns, dim=-1) * self.varies[..., None]).flatten(0, 1)
        sums = functional.embedding_bag(codes, table, mode="sum")
        latent = self.bias + sums[:, 0]
        if self.rank:  # over all pairs of positions, the product of their factors
            latent = latent + (sums[:, 1:-1].square().sum(dim=1) - sums[:, -1]) / 2
        if self.scores is not None:
            latent = latent + self.scores(batch.scores)
        return latent

    def configure_optimizers(self) -> Optimizer:
        """Adam, with penalties that make the weights ridge's where the curve is a straight line."""
        per_alpha = 2 * float(self.unit) ** 2 / self._n_train
        others = [p for name, p in self.named_parameters() if name not in ("weight", "factors")]
        groups: list[dict[str, Any]] = [
            {"params": [self.weight], "weight_decay": self.alpha * per_alpha},
            {"params": [self.factors], "weight_decay": self.pair_alpha * per_alpha},
            {"params": others},
        ]
        return Adam(groups, lr=self.lr)


def _padded(batch: Batch, length: int) -> Tensor:
    """The batch's tokens (B, length) with 0 at padding; what lies beyond is left out."""
    tokens = batch.tokens.masked_fill(~batch.mask, 0)[:, :length]
    return functional.pad(tokens, (0, length - tokens.shape[1]))


def _inverse_softplus(values: Tensor) -> Tensor:
    return values + torch.log(-torch.expm1(-values))
