"""Gaussian-process regression on sequences: a kernel model of a few thousand variants, exact up to 16,384."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.errors import TooManyRows
from datasets.common.paths import Places
from datasets.task import Announce
from models.bounds import MAX_INDUCED_ROWS, MAX_KERNEL_ROWS, Interval, NonNegativeFloat, PositiveFloat
from models.closed_form import ClosedForm, residues
from models.layers.amino_acids import NAMES, find_similarity, residue_vectors
from models.layers.gaussian_process import Centre, Hyperparameters, centre_of, factor, inducing_dual
from models.layers.score_features import ScoreFeatures, keep_one_width
from models.layers.sequence_kernel import Form, TrainingSide

_MAX_COVARIANCES = 2**20  # held at once in a prediction: 8 MiB, which stay in the processor's cache


class Kernel(ClosedForm):
    """A Gaussian process over sequences: a part of the sites, and others beside it, with noise, solved by Cholesky.

    All arithmetic is in float64. The distance of two sequences is the sum, over their positions, of how unlike their
    residues are; with `similarity=identity` it is the number of positions at which they differ, those that only the
    longer one has included. It does not depend on padding. The mean of the process is that of the training targets,
    and all variances are in units of their variance; predictions depend on the ratios of the variances alone, their
    standard deviation on all of them.

    Of more than 16,384 training sequences it is an approximation, the subset of regressors: a combination of the
    covariances with `inducing` random ones of them, fitted to all. The standard deviation is then the larger one that
    these alone would leave.

    A checkpoint holds the training (or inducing) sequences, a byte a residue, a dual coefficient for each and what
    marginal likelihood found. The factor that standard deviations need is N times larger, and computed again for them.

    Args:
        length_scale: in usual substitutions: at this distance the covariance of the RBF part has fallen to 1/e. On
            one-hot vectors it is scikit-learn's `RBF(length_scale=sqrt(length_scale))`.
        variance: of the RBF part, or the product.
        linear_variance: of each weight of the linear part, in which sites add up; 0 leaves it out.
        noise: variance of the measurement's noise.
        marginal_likelihood: take the four values above as the start of a search for those under which the training
            targets (a random 2,048 of them, where there are more) are most likely.
        max_train: train on this many random rows of a larger training set; None takes all.
        similarity: of residues: `identity`, `blosum62`, `physicochemical` (VHSE) or a file with a matrix of 20 x 20.
        sites: how they combine: `distance` is an RBF kernel of the distance and the linear part, `additive` the linear
            part alone, `product` a product over the sites, `both` this and the linear part.
        relevance: weigh each position that varies by a relevance, which marginal likelihood of 768 targets finds.
        composition: add a part that knows which residues were exchanged for which, but not where; its length scale is
            in usual substitutions.
        places: add a part that knows where a sequence is mutated, but not to what; its width is the number of residues
            over which an effect reaches.
        score_mean: add a linear function of the zero-shot scores, where there are any. The variance is that of its
            weights: noise over it is their penalty.
        score_kernel: an RBF kernel of the scores, added (then it has the variance), multiplied with the part of the
            sites, or both. Its length scale is half the squared distance of standardised scores.
        inducing: how many sequences stand for more than 16,384.
    """

    data_shapes = {"train_tokens": (None, None), "dual": (None,), "mean_distance": (None,)}  # noqa: RUF012
    train_tokens: Tensor
    dual: Tensor
    mean_distance: Tensor
    theta: Tensor
    location: Tensor
    scale: Tensor
    relevance: Tensor
    train_features: Tensor
    _side: TrainingSide | None
    _factor: Tensor | None

    # A default is what the model was before it had the argument.
    def __init__(
        self,
        *,
        length_scale: PositiveFloat,
        variance: PositiveFloat,
        linear_variance: NonNegativeFloat,
        noise: PositiveFloat,
        marginal_likelihood: bool,
        max_train: Annotated[int, Interval(ge=2, le=16384)] | None,
        similarity: str = "identity",
        sites: Literal["distance", "additive", "product", "both"] = "distance",
        relevance: bool = False,
        composition: bool = False,
        composition_variance: PositiveFloat = 0.3,
        composition_length_scale: PositiveFloat = 2.0,
        places: bool = False,
        place_variance: PositiveFloat = 0.3,
        place_width: PositiveFloat = 1.0,
        score_mean: bool = False,
        score_mean_variance: PositiveFloat = 1.0,
        score_kernel: Literal["none", "added", "multiplied", "both"] = "none",
        score_variance: PositiveFloat = 1.0,
        score_length_scale: PositiveFloat = 1.0,
        inducing: Annotated[int, Interval(ge=2, le=16384)] = 1024,
    ) -> None:
        super().__init__()
        variance = 0.0 if sites == "additive" else variance
        linear_variance = 0.0 if sites == "product" else linear_variance
        self.given = Hyperparameters(
            length_scale=length_scale, variance=variance, linear_variance=linear_variance, noise=noise
        )
        self.form = Form(
            sites=sites,
            composition_variance=composition_variance if composition else None,
            composition_length_scale=composition_length_scale,
            place_variance=place_variance if places else None,
            place_width=place_width,
            score_mean_variance=score_mean_variance if score_mean else None,
            score_kernel=score_kernel,
            score_variance=score_variance,
            score_length_scale=score_length_scale,
        )
        self.marginal_likelihood = marginal_likelihood
        self.max_rows = max_train
        self.n_inducing, self.similarity = inducing, similarity
        self._vectors = residue_vectors(find_similarity(similarity)[0]) if similarity in NAMES else None
        exact = torch.float64
        self.register_buffer("train_tokens", torch.zeros(0, 0, dtype=torch.uint8))  # (N, L)
        self.register_buffer("dual", torch.zeros(0, dtype=exact))  # (N,), for standardised targets
        self.register_buffer("mean_distance", torch.zeros(0, dtype=exact))  # (N,), to all training sequences
        self.register_buffer("theta", torch.zeros(4, dtype=exact))  # the hyperparameters in use
        self.register_buffer("location", torch.zeros((), dtype=exact))  # of the targets
        self.register_buffer("scale", torch.zeros((), dtype=exact))
        self.seeks_relevance = relevance
        self.score_features: ScoreFeatures | None = None
        if relevance:
            self.data_shapes = {**self.data_shapes, "relevance": (None,)}
            self.register_buffer("relevance", torch.zeros(0, dtype=exact))  # (L,), 1 where nothing varies
        self.knows_scores = score_mean or score_kernel != "none"
        self._side = self._factor = None

    def take_scores(self) -> None:
        """As for other models; where hyperparameters leave them out there is no room for them."""
        if self.knows_scores:
            self.score_features = ScoreFeatures()
            self.data_shapes = {**self.data_shapes, "train_features": (None, None)}
            self.register_buffer("train_features", torch.zeros(0, 0, dtype=torch.float64))  # (N, K)
            keep_one_width(self, "score_features", "train_features")

    def can_rank(self, residues: NDArray[np.uint8], training: NDArray[np.uint8], *, has_scores: bool = False) -> bool:
        """As for other models: see `models.layers.sequence_kernel.Form.can_rank`; scores tell all apart."""
        by_scores = has_scores and self.knows_scores
        return by_scores or self.form.can_rank(residues, training, is_identity=self.similarity == "identity")

    def fetch(self, places: Places, announce: Announce) -> None:
        """Read the similarity from its file, if it is one; the hash of the file is recorded."""
        if self._vectors is None:
            matrix, self.backbone_hash = find_similarity(self.similarity)
            self.weights_name = self.similarity
            self._vectors = residue_vectors(matrix)

    def check_size(self, n_train: int) -> None:
        """Refuse more training rows than inducing ones can stand for, unless a part is asked for."""
        if self.max_rows is None and n_train > MAX_INDUCED_ROWS:
            raise TooManyRows(
                f"The kernel model takes at most {MAX_INDUCED_ROWS:,} training sequences, here are {n_train:,}: set "
                f"model.max_train={MAX_KERNEL_ROWS // 2} to train on that many random ones, or choose another model."
            )

    def approximation(self, n_train: int) -> str | None:
        """As for other models: inducing sequences."""
        if not self._is_induced(n_train):
            return None
        return (
            f"Of {n_train:,} training sequences the kernel model is an approximation (subset of regressors): "
            f"{self.n_inducing:,} random ones stand for all (model.inducing); it is exact up to {MAX_KERNEL_ROWS:,}."
        )

    @property
    def n_parameters(self) -> int:
        """A coefficient for each training sequence, the targets' mean and deviation, and hyperparameters if sought."""
        n_sought = len(self.theta) if self.marginal_likelihood else 0
        return len(self.dual) + 2 + n_sought + len(self.relevances) if len(self.dual) else 0

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those in use: the given ones, or what marginal likelihood made of them."""
        return Hyperparameters(**dict(zip(vars(self.given), self.theta.tolist(), strict=True)))

    @property
    def relevances(self) -> dict[int, float]:
        """Of each position (1-based, of what the model sees) that varies between training sequences, where sought."""
        if not self.seeks_relevance or not len(self.train_tokens):
            return {}
        varies = (self.train_tokens != self.train_tokens[:1]).any(dim=0).nonzero().flatten().tolist()
        return {place + 1: float(self.relevance[place]) for place in varies}

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,): the mean of the process."""
        parts = [self._covariances(*part)[0] @ self.dual for part in self._slices(batch)]
        return (torch.cat(parts) * self.scale + self.location).float()

    def predict_with_std(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predicted fitness (B,) and its standard deviation (B,), that of the measurement's noise not included."""
        if self._factor is None:
            self._factor = factor(self._own_covariances(self._to_training().distances_among_themselves()), self.theta)
        parts = []
        for covariances, prior in (self._covariances(*part) for part in self._slices(batch)):
            explained = torch.linalg.solve_triangular(self._factor, covariances.T, upper=False).square().sum(dim=0)
            parts.append((covariances @ self.dual, (prior - explained).clamp(min=0).sqrt()))
        mean, std = map(torch.cat, zip(*parts, strict=True))
        mean, std = (mean * self.scale + self.location).float(), (std * self.scale).float()
        if self.target_scale is None:
            return mean, std
        return self.target_scale(mean), self.target_scale.deviation(mean, std)

    def solve(self, tokens: Tensor, target: Tensor, scores: Tensor | None = None) -> None:
        """Condition the process on the training data."""
        self._forget()
        n_kept = self.n_inducing if self._is_induced(len(tokens)) else len(tokens)
        self.train_tokens = tokens[:n_kept].to(torch.uint8)
        features = None
        if self.score_features is not None:
            self.score_features.fit(scores)
            features = self.score_features(scores)
            self.train_features = target.new_zeros(n_kept, 0) if features is None else features[:n_kept]
        self.location = target.mean()
        deviation = target.std(correction=0)
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        standardised = (target - self.location) / self.scale
        if self.seeks_relevance:
            self.relevance = target.new_ones(tokens.shape[1])
        found = self._to_training().learn(
            standardised[:n_kept], self.given, relevance=self.seeks_relevance, hyperparameters=self.marginal_likelihood
        )
        if found.relevance is not None:
            self.relevance, self._side = found.relevance, None
        distance = self._to_training().distances_among_themselves()
        self.theta = self.theta.new_tensor(list(vars(found.hyperparameters).values()))
        self.mean_distance = centre_of(distance).mean_distance
        own = self._own_covariances(distance)
        if n_kept == len(tokens):
            self.dual = torch.cholesky_solve(standardised[:, None], factor(own, self.theta)).squeeze(1)
        else:
            self.dual = inducing_dual(own, self._pieces(tokens, features, standardised), self.theta)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """As for other models; its parts have to be of the same training sequences, and those of known residues."""
        super().load_trained_state(state)
        n_rows = {len(getattr(self, name)) for name in self.data_shapes if name != "relevance"}
        if len(n_rows) > 1:
            raise RuntimeError(f"its parts are of {' and '.join(map(str, sorted(n_rows)))} training sequences")
        if self.seeks_relevance and len(self.relevance) != self.train_tokens.shape[1]:
            raise RuntimeError(f"relevance is of {len(self.relevance)} positions, not {self.train_tokens.shape[1]}")
        if self.train_tokens.numel() and int(self.train_tokens.max()) >= self.tokenizer.n_tokens:
            raise RuntimeError(f"train_tokens holds {int(self.train_tokens.max())}, which stands for no residue")

    def _is_induced(self, n_train: int) -> bool:
        return self.max_rows is None and n_train > MAX_KERNEL_ROWS

    def _slices(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Tokens and features of a few rows at a time."""
        features = None if self.score_features is None else self.score_features(batch.scores)
        n_rows = max(1, _MAX_COVARIANCES // max(1, len(self.dual)))
        for start, tokens in enumerate(torch.split(residues(batch), n_rows)):
            rows = slice(start * n_rows, (start + 1) * n_rows)
            yield tokens, None if features is None else features[rows]

    def _pieces(self, tokens: Tensor, features: Tensor | None, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Covariances with the inducing sequences, and targets, of a few rows at a time."""
        n_rows = max(1, _MAX_COVARIANCES // self.n_inducing)
        for start in range(0, len(tokens), n_rows):
            rows = slice(start, start + n_rows)
            yield self._covariances(tokens[rows], None if features is None else features[rows])[0], target[rows]

    def _covariances(self, tokens: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """With the training sequences (B, N), and the variance of each before training (B,)."""
        return self._to_training()(tokens, features, self._centre(), self.theta)

    def _own_covariances(self, distance: Tensor) -> Tensor:
        """Of the training sequences (N, N), without noise, from their distances (N, N)."""
        side = self._to_training()
        return side(side.tokens, side.features, self._centre(), self.theta, distance)[0]

    def _centre(self) -> Centre:
        return Centre(mean_distance=self.mean_distance, overall=self.mean_distance.mean())

    def _to_training(self) -> TrainingSide:
        if self._side is None or self._side.device != self.train_tokens.device:
            assert self._vectors is not None, "`fetch` reads the similarity"
            known = self.train_features if self.score_features is not None and self.train_features.numel() else None
            relevance = self.relevance if self.seeks_relevance else None
            tokens, is_plain = self.train_tokens.long(), self.similarity == "identity"
            self._side = TrainingSide(self.form, tokens, self._vectors, known, relevance, is_plain=is_plain)
        return self._side

    def _forget(self) -> None:
        """Drop what was derived from other training data."""
        self._side = self._factor = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self._forget()
        super()._load_from_state_dict(state_dict, prefix, *args)
