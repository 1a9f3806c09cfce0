"""Predictions of an experiment with members: each on the scale of the ensemble, so that their weighted mean is its."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.embeddings.store import Embeddings
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import RunConfig
from search.experiments.members import Ensemble
from search.experiments.scales import Scale, in_unit, scale_of, together, trained_again
from search.training.predict_split import predict_sample
from search.training.predictor import Predictor


class EnsemblePredictor:
    """The models of all members, one `Predictor` for each, called as that is.

    What is cut of a sequence is what the first member sees, wherever it matters to others than the models.

    Args:
        ensemble: Its members.
        predictors: One for each.
        scales: Of members that were trained again, by what each is standardised; None: as in the file.

    Attributes:
        weights: (n_members,) what each model counts in the mean; the models of a member share its weight.
    """

    knows_deviation = False
    """What single members know of their own deviation is no deviation of the mean: the spread is said alone."""

    def __init__(
        self, ensemble: Ensemble, predictors: Sequence[Predictor], scales: Sequence[Scale | None] = ()
    ) -> None:
        known = [scale for scale in scales if scale is not None]
        self._ensemble = trained_again(ensemble, known) if len(known) == len(predictors) else ensemble
        self._predictors = predictors
        self.task, self.limit = predictors[0].task, predictors[0].limit
        self._counts = [predictor.n_members for predictor in predictors]
        shares = [member.share.weight / n for member, n in zip(ensemble.members, self._counts, strict=True)]
        self.weights: NDArray[np.float64] = np.repeat(shares, self._counts) / np.dot(shares, self._counts)

    def on_scale_of(self, split: PreparedSplit, configs: Sequence[RunConfig]) -> "EnsemblePredictor":
        """The same models, standardised by what they predict of test sequences of the split of their configs."""
        pairs = zip(self._predictors, configs, strict=True)
        scales = [scale_of(predict_sample(predictor, config, split)) for predictor, config in pairs]
        return EnsemblePredictor(self._ensemble, self._predictors, scales)

    @property
    def n_members(self) -> int:
        """The models of all members."""
        return len(self.weights)

    @property
    def is_light(self) -> bool:
        """Whether all of them are, see `Predictor.is_light`."""
        return all(predictor.is_light for predictor in self._predictors)

    @property
    def sees_embeddings(self) -> bool:
        """Whether one of them does, see `Predictor.sees_embeddings`."""
        return any(predictor.sees_embeddings for predictor in self._predictors)

    def __call__(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        *,
        scores: NDArray[np.float32] | None = None,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Predict as `Predictor.__call__`; a row for each model, those of the first member first."""
        found = [
            in_unit(self._ensemble, number, predictor(residues, lengths, check, scores=scores, embeddings=embeddings))
            for number, predictor in enumerate(self._predictors)
        ]
        return np.concatenate(found)

    def by_fold(
        self, models: NDArray[np.float32], *, is_by_fold: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Predictions (n_folds, n) of the ensemble, and how far its members lie apart; None of a single member.

        Of predictions (n_members, n) as `__call__` gives them, the models of each member in the order of the folds;
        else, without `is_by_fold`, all of them count as one fold.
        """
        parts = np.split(models, np.cumsum(self._counts)[:-1])
        return together(self._ensemble, parts if is_by_fold else [part.mean(axis=0, keepdims=True) for part in parts])
