"""Gaussian-process regression on sequences: a kernel model of a few thousand variants, exact up to 16,384."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.paths import Places
from datasets.task import Announce
from models.bounds import Interval, NonNegativeFloat, PositiveFloat
from models.closed_form import residues
from models.layers.amino_acids import NAMES, find_similarity, residue_vectors
from models.layers.embedding_features import EmbeddingFeatures
from models.layers.gaussian_process import Centre, Hyperparameters, centre_of, factor
from models.layers.score_features import ScoreFeatures, keep_one_width
from models.layers.sequence_kernel import Beside, Form, TrainingSide
from models.many_rows import ManyRows

_MAX_COVARIANCES = 2**20  # held at once in a prediction: 8 MiB, which stay in the processor's cache


class Kernel(ManyRows):
    """A Gaussian process over sequences: a part of the sites, and others beside it, with noise, solved by Cholesky.

    All arithmetic is in float64. The distance of two sequences is the sum, over their positions, of how unlike their
    residues are; with `similarity=identity` it is the number of positions at which they differ, those that only the
    longer one has included. A gap of an alignment is as unlike a residue as a usual substitution, about. Padding counts
    nothing. The mean of the process is that of the training targets, and all variances are in units of their variance;
    predictions depend on the ratios of the variances alone, their standard deviation on all of them.

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
        embeddings: whether it sees those of a file: `none`, `both` (beside the residues), or `alone` (in their place).
        embedding_kernel: an RBF kernel of them, added (then it has the variance) or, of `both`, multiplied with the
            part of the sites. Its length scale is half the squared distance of `EmbeddingFeatures`.
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
    train_embeddings: Tensor
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
        embeddings: Literal["none", "both", "alone"] = "none",
        embedding_kernel: Literal["added", "multiplied"] = "added",
        embedding_variance: PositiveFloat = 1.0,
        embedding_length_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        if embeddings == "alone":
            sites, linear_variance, composition, places, embedding_kernel = "additive", 0.0, False, False, "added"
        variance, linear_variance = variance * (sites != "additive"), linear_variance * (sites != "product")
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
            embedding_kernel="none" if embeddings == "none" else embedding_kernel,
            embedding_variance=embedding_variance,
            embedding_length_scale=embedding_length_scale,
        )
        self.embedding_scope = None if embeddings == "none" else "mean"
        self.embedding_features: EmbeddingFeatures | None = None
        self.marginal_likelihood, self.max_rows, self.n_inducing = marginal_likelihood, max_train, inducing
        self.similarity, self.seeks_relevance = similarity, relevance and variance + linear_variance > 0
        self._vectors = residue_vectors(find_similarity(similarity)[0], self.has_gaps) if similarity in NAMES else None
        self.register_buffer("train_tokens", torch.zeros(0, 0, dtype=torch.uint8))  # (N, L)
        self.register_buffer("dual", torch.zeros(0, dtype=torch.float64))  # (N,), for standardised targets
        self.register_buffer("mean_distance", torch.zeros(0, dtype=torch.float64))  # (N,), to all training sequences
        self.register_buffer("theta", torch.zeros(4, dtype=torch.float64))  # the hyperparameters in use
        self.register_buffer("location", torch.zeros((), dtype=torch.float64))  # of the targets
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self.score_features: ScoreFeatures | None = None
        if relevance:
            self.data_shapes = {**self.data_shapes, "relevance": (None,)}
            self.register_buffer("relevance", torch.zeros(0, dtype=torch.float64))  # (L,), 1 where nothing varies
        self.knows_scores = score_mean or score_kernel != "none"
        self._side = self._factor = None

    def take_scores(self) -> None:
        """As for other models; where hyperparameters leave them out there is no room for them."""
        if self.knows_scores:
            self.score_features = ScoreFeatures()
            self.data_shapes = {**self.data_shapes, "train_features": (None, None)}
            self.register_buffer("train_features", torch.zeros(0, 0, dtype=torch.float64))  # (N, K)
            keep_one_width(self, "score_features", "train_features")

    def take_embeddings(self, width: int) -> None:
        """As for other models."""
        self.embedding_features = EmbeddingFeatures(width)
        self.data_shapes = {**self.data_shapes, "train_embeddings": (None, width)}
        self.register_buffer("train_embeddings", torch.zeros(0, width))  # (N, D)

    def can_rank(self, residues: NDArray[np.uint8], training: NDArray[np.uint8], *, has_scores: bool = False) -> bool:
        """As for other models: see `models.layers.sequence_kernel.Form.can_rank`; what is beside tells all apart."""
        by_others = self.embedding_scope is not None or (has_scores and self.knows_scores)
        return by_others or self.form.can_rank(residues, training, is_identity=self.similarity == "identity")

    def fetch(self, places: Places, announce: Announce) -> None:
        """Read the similarity from its file, if it is one; the hash of the file is recorded."""
        if self._vectors is None:
            matrix, self.backbone_hash = find_similarity(self.similarity)
            self.weights_name, self._vectors = self.similarity, residue_vectors(matrix, self.has_gaps)

    @property
    def n_parameters(self) -> int:
        """A coefficient for each training sequence, the targets' mean and deviation, and hyperparameters if sought."""
        n_sought = len(self.relevances) + len(self.theta) * self.marginal_likelihood
        return (len(self.dual) + 2 + n_sought) * bool(len(self.dual))

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
        parts = [covariances @ self.dual for covariances, _ in self.with_training(batch)]
        return (torch.cat(parts) * self.scale + self.location).float()

    def predict_with_std(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predicted fitness (B,) and its standard deviation (B,), that of the measurement's noise not included."""
        parts = []
        for covariances, prior in self.with_training(batch):
            explained = torch.linalg.solve_triangular(self.factor, covariances.T, upper=False).square().sum(dim=0)
            parts.append((covariances @ self.dual, (prior - explained).clamp(min=0).sqrt()))
        mean, std = map(torch.cat, zip(*parts, strict=True))
        mean, std = (mean * self.scale + self.location).float(), (std * self.scale).float()
        return (mean, std) if (unit := self.target_scale) is None else (unit(mean), unit.deviation(mean, std))

    @property
    def factor(self) -> Tensor:
        """The Cholesky factor (N, N) of the covariances of the training sequences' measurements."""
        if self._factor is None:
            distance = self.training_side().distances_among_themselves()
            self._factor = factor(self._own_covariances(distance), self.theta, self.known_weight)
        return self._factor

    def solve(
        self,
        tokens: Tensor,
        target: Tensor,
        scores: Tensor | None = None,
        embeddings: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Condition the process on the training data."""
        self._side = self._factor = None
        n_kept = self.n_inducing if self._is_induced(len(tokens)) else len(tokens)
        self.train_tokens = tokens[:n_kept].to(torch.uint8)
        if self.score_features is not None:
            self.score_features.fit(scores)
            self.train_features = target.new_zeros(n_kept, 0)
        if self.embedding_features is not None and embeddings is not None:
            self.embedding_features.fit([embeddings])
        beside = self._beside(scores, embeddings)
        if beside.scores is not None:
            self.train_features = beside.scores[:n_kept]
        if beside.embeddings is not None:
            self.train_embeddings = beside.embeddings[:n_kept]
        self.keep_weights(weight, n_kept)
        self.location, deviation = target.mean(), target.std(correction=0)
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        standardised = (target - self.location) / self.scale
        if self.seeks_relevance:
            self.relevance = target.new_ones(tokens.shape[1])
        sought = {"relevance": self.seeks_relevance, "hyperparameters": self.marginal_likelihood}
        learnt = self.training_side().learn(standardised[:n_kept], self.given, self.known_weight, **sought)
        if learnt.relevance is not None:
            self.relevance, self._side = learnt.relevance, None
        distance = self.training_side().distances_among_themselves()
        self.theta = self.theta.new_tensor(list(vars(learnt.hyperparameters).values()))
        self.mean_distance = centre_of(distance).mean_distance
        slices = self._slices(tokens, beside, self.n_inducing)
        pieces = ((rows, self._covariances(some, known)[0]) for rows, some, known in slices)
        self.dual = self.dual_of(self._own_covariances(distance), pieces, standardised, weight, self.theta)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """As for other models; its parts have to fit, and its sequences to be of known residues."""
        super().load_trained_state(state)
        if self.seeks_relevance and len(self.relevance) != self.train_tokens.shape[1]:
            raise RuntimeError(f"relevance is of {len(self.relevance)} positions, not {self.train_tokens.shape[1]}")
        if self.train_tokens.numel() and int(self.train_tokens.max()) >= self.tokenizer.n_tokens:
            raise RuntimeError(f"train_tokens holds {int(self.train_tokens.max())}, which stands for no residue")

    def _beside(self, scores: Tensor | None, embeddings: Tensor | None) -> Beside:
        known = None if self.embedding_features is None else self.embedding_features(embeddings)
        return Beside(None if self.score_features is None else self.score_features(scores), known)

    def _slices(self, tokens: Tensor, beside: Beside, n_others: int) -> Iterator[tuple[slice, Tensor, Beside]]:
        """A few rows at a time, with their tokens and what stands beside them, for covariances with `n_others`."""
        n_rows = max(1, _MAX_COVARIANCES // max(1, n_others))
        for start in range(0, max(1, len(tokens)), n_rows):
            rows = slice(start, start + n_rows)
            yield rows, tokens[rows], beside.at(rows)

    def with_training(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Of a few rows at a time, covariances (b, N) with the training sequences, and variances before it (b,)."""
        slices = self._slices(residues(batch), self._beside(batch.scores, batch.features), len(self.dual))
        return (self._covariances(tokens, beside) for _, tokens, beside in slices)

    def _covariances(self, tokens: Tensor, beside: Beside, distance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """With the training sequences (B, N), and the variance of each before training (B,)."""
        centre = Centre(mean_distance=self.mean_distance, overall=self.mean_distance.mean())
        return self.training_side()(tokens, beside, centre, self.theta, distance)

    def _own_covariances(self, distance: Tensor) -> Tensor:
        """Of the training sequences (N, N), without noise, from their distances (N, N)."""
        side = self.training_side()
        return self._covariances(side.tokens, side.beside, distance)[0]

    def training_side(self) -> TrainingSide:
        """The training sequences' side of covariances."""
        if self._side is None or self._side.device != self.train_tokens.device:
            assert self._vectors is not None, "`fetch` reads the similarity"
            scores = self.train_features if self.score_features is not None and self.train_features.numel() else None
            known = Beside(scores, None if self.embedding_features is None else self.train_embeddings)
            relevance = self.relevance if self.seeks_relevance else None
            tokens, is_plain = self.train_tokens.long(), self.similarity == "identity"
            self._side = TrainingSide(self.form, tokens, self._vectors, known, relevance, is_plain=is_plain)
        return self._side

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self._side = self._factor = None  # of other training data
        super()._load_from_state_dict(state_dict, prefix, *args)
