"""Gaussian-process regression on one-hot sequences, exact: a kernel model of a few thousand variants."""

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.bounds import MAX_KERNEL_ROWS, Interval, NonNegativeFloat, PositiveFloat
from models.closed_form import ClosedForm, residues
from models.layers.gaussian_process import (
    Centre,
    Hyperparameters,
    centre_of,
    covariance,
    factor_of,
    maximise_marginal_likelihood,
    prior_variance,
)
from models.layers.one_hot import HammingTo, seen_residues

_LIKELIHOOD_ROWS = 2048
_MAX_COVARIANCES = 2**20  # held at once in a prediction: 8 MiB, which stay in the processor's cache


class Kernel(ClosedForm):
    """A Gaussian process: an RBF kernel over the Hamming distance, a linear part and noise, solved by Cholesky.

    All arithmetic is in float64. The distance of two sequences is the number of positions at which they differ,
    those that only the longer one has included: it does not depend on padding. The mean of the process is that of
    the training targets, and all variances are in units of their variance; predictions depend on the ratios of the
    three variances alone, their standard deviation on all of them.

    A checkpoint holds the training sequences (a byte a residue), a dual coefficient for each and the
    hyperparameters. The factor that standard deviations need is N times larger, and is computed again when the first
    one is asked for.

    Args:
        length_scale: in substitutions: at this distance the covariance of the RBF part has fallen to 1/e. On one-hot
            vectors it is scikit-learn's `RBF(length_scale=sqrt(length_scale))`.
        variance: of the RBF part.
        linear_variance: of each weight of the linear part; 0 leaves it out.
        noise: variance of the measurement's noise.
        marginal_likelihood: take the four values above as the start of a search for those under which the training
            targets (a random 2,048 of them, where there are more) are most likely.
        max_train: train on this many random rows of a larger training set; None refuses one of more than 16,384.
    """

    data_shapes = {"train_tokens": (None, None), "dual": (None,), "mean_distance": (None,)}  # noqa: RUF012
    train_tokens: Tensor
    dual: Tensor
    mean_distance: Tensor
    theta: Tensor
    location: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        length_scale: PositiveFloat,
        variance: PositiveFloat,
        linear_variance: NonNegativeFloat,
        noise: PositiveFloat,
        marginal_likelihood: bool,
        max_train: Annotated[int, Interval(ge=2, le=16384)] | None,
    ) -> None:
        super().__init__()
        self.given = Hyperparameters(
            length_scale=length_scale, variance=variance, linear_variance=linear_variance, noise=noise
        )
        self.marginal_likelihood = marginal_likelihood
        self.max_rows = max_train
        exact = torch.float64
        self.register_buffer("train_tokens", torch.zeros(0, 0, dtype=torch.uint8))  # (N, L)
        self.register_buffer("dual", torch.zeros(0, dtype=exact))  # (N,), for standardised targets
        self.register_buffer("mean_distance", torch.zeros(0, dtype=exact))  # (N,), to all training sequences
        self.register_buffer("theta", torch.zeros(4, dtype=exact))  # the hyperparameters in use
        self.register_buffer("location", torch.zeros((), dtype=exact))  # of the targets
        self.register_buffer("scale", torch.zeros((), dtype=exact))
        self._distances: HammingTo | None = None
        self._factor: Tensor | None = None

    @classmethod
    def can_rank(cls, residues: NDArray[np.uint8], training: NDArray[np.uint8]) -> bool:
        """As for other models: beyond what training shows it counts mutations, but does not know where they are."""
        n_beyond = ((training == training[0]).all(axis=0) & (residues != training[0])).sum(axis=1)
        return bool(np.ptp(n_beyond)) or bool(np.ptp(seen_residues(residues, training), axis=0).any())

    def check_size(self, n_train: int) -> None:
        """Refuse more training rows than a Cholesky factor can be held of, unless a part is asked for."""
        if self.max_rows is None and n_train > MAX_KERNEL_ROWS:
            raise UserError(
                f"The kernel model is exact and takes at most {MAX_KERNEL_ROWS:,} training sequences, here are "
                f"{n_train:,}: "
                f"set model.max_train={MAX_KERNEL_ROWS // 2} to train on that many random ones, or "
                "choose another model."
            )

    @property
    def n_parameters(self) -> int:
        """A coefficient for each training sequence, the targets' mean and deviation, and hyperparameters if sought."""
        n_sought = len(self.theta) if self.marginal_likelihood else 0
        return len(self.dual) + 2 + n_sought if len(self.dual) else 0

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those in use: the given ones, or what marginal likelihood made of them."""
        return Hyperparameters(**dict(zip(vars(self.given), self.theta.tolist(), strict=True)))

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,): the mean of the process."""
        parts = [self._covariances(tokens)[0] @ self.dual for tokens in self._slices(batch)]
        return (torch.cat(parts) * self.scale + self.location).float()

    def predict_with_std(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predicted fitness (B,) and its standard deviation (B,), that of the measurement's noise not included."""
        if self._factor is None:
            own = self._to_training().among_themselves()
            self._factor = factor_of(own, self._centre(), self.theta)
        parts = []
        for tokens in self._slices(batch):
            covariances, prior = self._covariances(tokens)
            explained = torch.linalg.solve_triangular(self._factor, covariances.T, upper=False).square().sum(dim=0)
            parts.append((covariances @ self.dual, (prior - explained).clamp(min=0).sqrt()))
        mean, std = map(torch.cat, zip(*parts, strict=True))
        return (mean * self.scale + self.location).float(), (std * self.scale).float()

    def solve(self, tokens: Tensor, target: Tensor, scores: Tensor | None = None) -> None:
        """Condition the process on the training data."""
        self._forget()
        self.train_tokens = tokens.to(torch.uint8)
        self.location = target.mean()
        deviation = target.std(correction=0)
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        standardised = (target - self.location) / self.scale
        distance = self._to_training().among_themselves()
        hyperparameters = self.given
        if self.marginal_likelihood:
            part = slice(_LIKELIHOOD_ROWS)
            hyperparameters = maximise_marginal_likelihood(distance[part, part], standardised[part], self.given)
        self.theta = self.theta.new_tensor(list(vars(hyperparameters).values()))
        self.mean_distance = centre_of(distance).mean_distance
        factor = factor_of(distance, self._centre(), self.theta)
        self.dual = torch.cholesky_solve(standardised[:, None], factor).squeeze(1)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """As for other models; its parts have to be of the same training sequences, and those of known residues."""
        super().load_trained_state(state)
        n_rows = {len(getattr(self, name)) for name in self.data_shapes}
        if len(n_rows) > 1:
            raise RuntimeError(f"its parts are of {' and '.join(map(str, sorted(n_rows)))} training sequences")
        if self.train_tokens.numel() and int(self.train_tokens.max()) >= self.tokenizer.n_tokens:
            raise RuntimeError(f"train_tokens holds {int(self.train_tokens.max())}, which stands for no residue")

    def _slices(self, batch: Batch) -> tuple[Tensor, ...]:
        return torch.split(residues(batch), max(1, _MAX_COVARIANCES // max(1, len(self.dual))))

    def _covariances(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """With the training sequences (B, N), and the variance of each before training (B,)."""
        distance = self._to_training()(tokens)
        centre = self._centre()
        return covariance(distance, centre, self.theta), prior_variance(distance, centre, self.theta)

    def _centre(self) -> Centre:
        return Centre(mean_distance=self.mean_distance, overall=self.mean_distance.mean())

    def _to_training(self) -> HammingTo:
        if self._distances is None or self._distances.device != self.train_tokens.device:
            self._distances = HammingTo(self.train_tokens.long(), self.tokenizer.n_tokens)
        return self._distances

    def _forget(self) -> None:
        """Drop what was derived from other training data."""
        self._distances = self._factor = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self._forget()
        super()._load_from_state_dict(state_dict, prefix, *args)
