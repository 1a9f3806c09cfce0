"""The covariance of a kernel model: what it consists of, and its values for pairs with the training sequences."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.layers.gaussian_process import (
    Centre,
    Hyperparameters,
    covariance,
    maximise_marginal_likelihood,
    prior_variance,
)
from models.layers.one_hot import HammingTo, seen_residues
from models.layers.relevance import Build, maximise_posterior
from models.layers.relevance_prior import RELEVANCE_ROWS
from models.layers.sequence_parts import CompositionPart, PlacePart, rbf
from models.layers.site_pairs import SitePairs, product_of, weighted

_LIKELIHOOD_ROWS = 2048
Codes = NDArray[np.uint8]
Sites = Literal["distance", "additive", "product", "both"]
ScoreKernel = Literal["none", "added", "multiplied", "both"]
EmbeddingKernel = Literal["none", "added", "multiplied"]


class Beside(NamedTuple):
    """What stands beside B sequences: features of their scores (B, K) and embeddings (B, D), None without."""

    scores: Tensor | None = None
    embeddings: Tensor | None = None

    def at(self, rows: slice) -> "Beside":
        """Those of some rows."""
        return Beside(*(None if one is None else one[rows] for one in self))


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a covariance consists of, besides the hyperparameters of its site by site part.

    Variances of None leave a part out; see `models.kernel.Kernel`.
    """

    sites: Sites
    composition_variance: float | None
    composition_length_scale: float
    place_variance: float | None
    place_width: float
    score_mean_variance: float | None
    score_kernel: ScoreKernel
    score_variance: float
    score_length_scale: float
    embedding_kernel: EmbeddingKernel = "none"
    embedding_variance: float = 1.0
    embedding_length_scale: float = 1.0

    @property
    def is_product(self) -> bool:
        """Whether sites are multiplied one by one, instead of by a function of the summed distance."""
        return self.sites in ("product", "both")

    @property
    def has_sites_alone(self) -> bool:
        """Whether all of it follows from distances, as the derivatives of `gaussian_process` have it."""
        others = (self.composition_variance, self.place_variance, self.score_mean_variance)
        kernels = (self.score_kernel, self.embedding_kernel)
        return not self.is_product and all(one is None for one in others) and set(kernels) == {"none"}

    def can_rank(self, residues: Codes, training: Codes, *, is_identity: bool) -> bool:
        """Whether it can tell sequences (M, L) apart after training on others (N, L), codes padded with zeros.

        Where all residues are alike, it counts mutations beyond what training shows. Likenesses of residues,
        composition and places tell positions apart that no training sequence varies; where sites add up, likenesses do
        so at positions alone at which training varies.
        """
        if self.composition_variance is not None and np.ptp(np.sort(residues, axis=1), axis=0).any():
            return True
        mutated = residues != training[0]
        if self.place_variance is not None and (mutated != mutated[0]).any():
            return True
        is_additive = self.sites == "additive"
        if not is_identity:
            differ = np.ptp(residues, axis=0) > 0
            return bool((differ & (np.ptp(training, axis=0) > 0) if is_additive else differ).any())
        n_beyond = ((training == training[0]).all(axis=0) & (residues != training[0])).sum(axis=1)
        by_number = bool(np.ptp(n_beyond)) and not is_additive
        return by_number or bool(np.ptp(seen_residues(residues, training), axis=0).any())


class Learnt(NamedTuple):
    """Hyperparameters, and the relevance (L,) of the positions where it was sought."""

    hyperparameters: Hyperparameters
    relevance: Tensor | None


class TrainingSide:
    """Covariances with N training sequences, from what is computed of them once.

    Args:
        form: what the covariance consists of.
        tokens: (N, L) int64, 0 at padding.
        vectors: (T, F) float64 of the tokens.
        beside: what stands beside them.
        relevance: (L,) float64 of the positions; None: they are all alike.
        is_plain: whether all residues are alike, so that distances are Hamming distances.
    """

    def __init__(
        self,
        form: Form,
        tokens: Tensor,
        vectors: Tensor,
        beside: Beside,
        relevance: Tensor | None,
        *,
        is_plain: bool,
    ) -> None:
        self.device = tokens.device
        self.form = form
        self.tokens, self.beside = tokens, beside
        self._vectors = vectors = vectors.to(tokens.device)
        self._relevance = relevance
        is_hamming = is_plain and relevance is None
        self._hamming = HammingTo(tokens, len(vectors)) if is_hamming else None
        unlike = (vectors[:, None] - vectors).square().sum(dim=2) / 2
        self._pairs = None if is_hamming and not form.is_product else SitePairs(tokens, unlike, relevance)
        self._parts: list[CompositionPart | PlacePart] = []
        if form.composition_variance is not None:
            variance, length_scale = form.composition_variance, form.composition_length_scale
            self._parts.append(CompositionPart(tokens, vectors, variance=variance, length_scale=length_scale))
        if form.place_variance is not None:
            self._parts.append(PlacePart(tokens, len(vectors), variance=form.place_variance, width=form.place_width))

    def distances(self, tokens: Tensor) -> Tensor:
        """(B, N) float64, in usual substitutions."""
        if self._hamming is not None:
            return self._hamming(tokens)
        assert self._pairs is not None
        return self._pairs(tokens, weighted)

    def distances_among_themselves(self) -> Tensor:
        """(N, N) float64."""
        if self._hamming is not None:
            return self._hamming.among_themselves()
        return self.distances(self.tokens)

    def __call__(
        self, tokens: Tensor, beside: Beside, centre: Centre, theta: Tensor, distance: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Covariances (B, N) of B sequences, and the variance of each before training (B,).

        `distance` (B, N) is that of `distances`, where it is known.
        """
        distance = self.distances(tokens) if distance is None else distance
        exponent = None
        if self.form.is_product:
            assert self._pairs is not None
            exponent = self._pairs(tokens, product_of(float(theta[0])))
        covariances = covariance(distance, centre, theta, exponent)
        prior = prior_variance(distance, centre, theta)
        factor, added = self._of_others(beside)
        if factor is not None:
            covariances.mul_(factor)
        if added is not None:
            covariances.add_(added[0])
            prior = prior + added[1]
        for part in self._parts:
            covariances.add_(part.covariances(tokens))
            prior = prior + part.variances(tokens)
        return covariances, prior

    def among(self, tokens: Tensor, centre: Centre, theta: Tensor) -> Tensor:
        """Covariances (B, B) of B sequences (B, L) with each other, nothing beside them; see `__call__`."""
        relevance = self._relevance
        if relevance is not None:  # of positions beyond those of training it is 1
            n_more = max(0, tokens.shape[1] - len(relevance))
            relevance = functional.pad(relevance, (0, n_more), value=1.0)[: tokens.shape[1]]
        is_plain = self._hamming is not None
        others = TrainingSide(self.form, tokens, self._vectors, Beside(), relevance, is_plain=is_plain)
        others._parts = [part.to(tokens) for part in self._parts]
        distance = others.distances_among_themselves()
        without_linear = torch.stack([theta[0], theta[1], torch.zeros_like(theta[2]), theta[3]])
        covariances, _ = others(tokens, Beside(), centre, without_linear, distance)
        # The linear part is centred on the training sequences, whoever stands in their place.
        far = self.distances(tokens).mean(dim=1)
        return covariances.add_(theta[2] * (far[:, None] + far - centre.overall - distance))

    def _of_others(self, beside: Beside) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
        """What stands beside sequences multiplies covariances by (B, N), and adds to them, with its variances (B,)."""
        factor, added = self._of_scores(beside.scores)
        form = self.form
        if form.embedding_kernel == "none" or beside.embeddings is None or self.beside.embeddings is None:
            return factor, added
        rows, others = beside.embeddings.double(), self.beside.embeddings.double()
        alike = rbf(rows, others, form.embedding_length_scale)
        if form.embedding_kernel == "multiplied":
            return alike if factor is None else factor * alike, added
        covariances, variances = form.embedding_variance * alike, alike.new_full((len(alike),), form.embedding_variance)
        return factor, (covariances, variances) if added is None else (added[0] + covariances, added[1] + variances)

    def _of_scores(self, features: Tensor | None) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
        """The same of the scores' features (B, K)."""
        form = self.form
        if features is None or self.beside.scores is None:
            return None, None
        alike = None
        if form.score_kernel != "none":
            alike = rbf(features, self.beside.scores, form.score_length_scale)
        added, variance = features.new_zeros(()), features.new_zeros(len(features))
        if form.score_mean_variance is not None:
            added = added + form.score_mean_variance * features @ self.beside.scores.T
            variance = variance + form.score_mean_variance * features.square().sum(dim=1)
        if alike is not None and form.score_kernel in ("added", "both"):
            added, variance = added + form.score_variance * alike, variance + form.score_variance
        return alike if form.score_kernel in ("multiplied", "both") else None, (added, variance)

    def learn(
        self,
        target: Tensor,
        start: Hyperparameters,
        weight: Tensor | None = None,
        *,
        relevance: bool,
        hyperparameters: bool,
    ) -> Learnt:
        """What marginal likelihood of the first rows finds, which come in random order; what is not sought stays.

        Args:
            target: (N,) float64, standardised.
            start: where to begin.
            weight: (N,) by which the noise of each row is divided; None: it is the same of all.
            relevance: whether that of the positions is sought.
            hyperparameters: whether these are.
        """
        if not (relevance or hyperparameters):
            return Learnt(start, None)
        n_rows = RELEVANCE_ROWS if relevance else _LIKELIHOOD_ROWS
        tokens, target, weight = self.tokens[:n_rows], target[:n_rows], None if weight is None else weight[:n_rows]
        beside = self.beside.at(slice(n_rows))
        by_distance = self.form.has_sites_alone and not relevance
        is_plain = by_distance and self._hamming is not None
        side = TrainingSide(self.form, tokens, self._vectors, beside, None, is_plain=is_plain)
        if by_distance:
            distance = side.distances_among_themselves()
            return Learnt(maximise_marginal_likelihood(distance, target, start, weight), None)
        assert side._pairs is not None
        varies = side._pairs.varies
        n_sites = int(varies.sum()) if relevance else 0
        found, relevances = maximise_posterior(
            side._builder(), target, start, n_sites=n_sites, seeks_hyperparameters=hyperparameters, weight=weight
        )
        if not relevance:
            return Learnt(found, None)
        of_all = target.new_ones(tokens.shape[1])
        of_all[varies] = relevances
        return Learnt(found, of_all)

    def _builder(self) -> Build:
        """The covariances of `__call__` among the training sequences, as a function that can be derived."""
        pairs = self._pairs
        assert pairs is not None
        factor, added = self._of_others(self.beside)
        others = [part.covariances(self.tokens) for part in self._parts] + ([] if added is None else [added[0]])
        alike = pairs.among_themselves(weighted)

        def build(theta: Tensor, relevance: Tensor | None) -> Tensor:
            distance = alike if relevance is None else pairs.among_themselves(weighted, relevance)
            exponent = distance / theta[0]
            if self.form.is_product:
                exponent = pairs.among_themselves(product_of(theta[0]), relevance)
            mean = distance.mean(dim=1)
            matrix = theta[1] * torch.exp(-exponent) + theta[2] * (mean[:, None] + mean - mean.mean() - distance)
            matrix = matrix if factor is None else matrix * factor
            for other in others:
                matrix = matrix + other
            return matrix

        return build
