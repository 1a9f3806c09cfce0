"""A frozen experiment together with its weights, ready to predict."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS, residues_of
from datasets.common.errors import SequenceError, UserError
from datasets.common.paths import Places
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.embeddings.store import Embeddings
from datasets.scores.candidates import CandidateScores
from search.config.run_config import language_models
from search.experiments.averages import mean_of
from search.experiments.ensemble_predictor import EnsemblePredictor
from search.experiments.experiment import load_experiment
from search.experiments.given import check_given, columns_of, texts_of
from search.experiments.variation import check_variation
from search.experiments.weights_in_use import WeightFiles, find_calibration, find_weights
from search.stats.calibration import LEVEL, Calibrated
from search.training.predictor import Predictor
from search.training.relevances import read_relevances

AnyPredictor = Predictor | EnsemblePredictor
"""Takes residues, gives predictions (n_members, n)."""


class TrainedExperiment:
    """Predicts with an experiment's weights: those that `confirm` left, or those of the search.

    Attributes:
        config: The run. provenance: where its numbers come from. task: what is predicted, `task.units` in what unit.
        ensemble: The members of an experiment with several; the config and the provenance are those of the first.
        weights: (n_members,) what each model counts in the mean; None: all the same.
        scores: The score columns of the training; `use` names all that a model sees.
        made_by: Who trained the weights. origin: on which rows: "search", or "confirm" for all that was measured.
        familiar: What is known of the rows that they were trained on; None of experiments of older versions.
        calibration: What intervals are made of, for these weights; None of experiments that hold none. erred: whose
            models' errors they are, those of the "search", or those that "confirm" trained without some rows.
        predictor: Takes residues as arrays.

    Raises:
        UserError: The experiment or its weights are missing, were changed, or do not fit together.
    """

    def __init__(
        self,
        path: Path,
        *,
        places: Places,
        device: torch.device | None = None,
        announce: Callable[[str], None] = lambda sentence: None,
        weights: Sequence[WeightFiles] | None = None,
    ) -> None:
        experiment = load_experiment(path)
        found = find_weights(path, experiment, announce) if weights is None else weights
        self.path = path
        self.config, self.provenance, self.ensemble = experiment.config, experiment.provenance, experiment.ensemble
        self.made_by, self.origin = found[0].made_by, found[0].origin
        self.familiar = None if experiment.familiar is None else experiment.familiar[self.origin]
        self.calibration, self.erred = find_calibration(path, experiment, found)
        self._files = [own.files for own in found]
        self._weights = [file for files in self._files for file in files]
        self._cache_dir = places.cache_dir
        self._announce, self._models = announce, language_models(places.weights_dir, announce)
        self._is_known_to_vary = False
        self._parts, self.scores, self._embeddings = experiment.parts, experiment.scores, experiment.embeddings
        predictors = [
            Predictor(
                part.config,
                own.files,
                places=places,
                device=device,
                announce=announce,
                micro_batch_tokens=part.provenance.micro_batch_tokens,
            )
            for part, own in zip(self._parts, found, strict=True)
        ]
        for part, predictor in zip(self._parts, predictors, strict=True):
            if predictor.backbone != part.provenance.backbone:
                raise UserError(
                    f"{path} was trained on other pretrained weights ({part.provenance.backbone}) than what was found "
                    f"({predictor.backbone}): name the right folder with --weights-dir, or use the torch they were "
                    "drawn with."
                )
        self.predictor: AnyPredictor = predictors[0]
        self.weights: NDArray[np.float64] | None = None
        if self.ensemble is not None:
            self.predictor = ensemble = EnsemblePredictor(self.ensemble, predictors, [own.scale for own in found])
            self.weights = ensemble.weights
        self.task = self.predictor.task

    @property
    def n_members(self) -> int:
        """The models, one or more; of an ensemble those of all its members."""
        return self.predictor.n_members

    @property
    def relevances(self) -> dict[int, float]:
        """How much each position matters to a kernel with `model.relevance=true`; empty for any other model.

        Of the positions of the whole sequence that vary in training, numbered as mutations are; the geometric mean of
        the models. See `search.training.relevances`. Of an experiment with members, those of the first that has some.
        """
        for part, files in zip(self._parts, self._files, strict=True):
            data = part.config.data
            if found := read_relevances(files, self.task, data.crop, data.max_length):
                return dict(zip(found.position.tolist(), found.value.tolist(), strict=True))
        return {}

    def predict(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        zero_shot_file: Path | None = None,
        embeddings: Path | None = None,
    ) -> NDArray[np.float32]:
        """Return the predictions (n,) of n whole sequences, the mean of the models, in the assay's unit.

        The sequences are a list, an array or a Series of them, or anything else that yields them in order. Score
        columns that the experiment was trained with are given in `scores` (n numbers by the name of each, NaN where one
        is missing) or in a file; those that are computed from the sequences need neither. Of a model that sees
        embeddings, `embeddings` is a file with those of the sequences; None is the file of training.

        Raises:
            UserError: One is no text, holds no residue or one outside the alphabet, or is longer than the model takes;
                or the weights predict what `members_of` refuses.
            TypeError: It is no list of sequences, but one sequence, say.
        """
        members = self.predict_members(sequences, scores, zero_shot_file=zero_shot_file, embeddings=embeddings)
        return mean_of(members, self.weights)

    def predict_members(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        zero_shot_file: Path | None = None,
        embeddings: Path | None = None,
    ) -> NDArray[np.float32]:
        """Return the predictions (n_members, n) of each model; arguments and errors are those of `predict`.

        Of an ensemble each is on the scale of the whole, whose prediction is their mean with the `weights`.
        """
        return self._of_texts(texts_of(sequences), scores, zero_shot_file, embeddings, self.members_of)

    def predict_intervals(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        level: float = LEVEL,
        zero_shot_file: Path | None = None,
        embeddings: Path | None = None,
    ) -> Calibrated:
        """Return the intervals of n sequences of the kind that was validated (`calibration.validated`).

        What lies outside is not looked for. Errors are those of `predict`, and that there are no intervals at a level.
        """
        if self.calibration is None:
            raise UserError(f"{self.path} holds no errors on validated rows: export it with this version.")
        if not isinstance(level, int | float) or not 0 < level < 1:
            raise UserError(f"level={level!r} is not valid: expected a number above 0 and below 1, such as 0.9.")
        texts = texts_of(sequences)
        beside = scores, zero_shot_file, embeddings
        members, own = self._of_texts(texts, *beside, self.members_of), None
        if isinstance(self.predictor, Predictor) and self.calibration.asks_deviation:
            own = self._of_texts(texts, *beside, self.predictor.deviation)
        return self.calibration(*self.by_fold(members, own), level)

    def by_fold(
        self, members: NDArray[np.float32], own: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What the calibration takes: predictions (n_folds, n), and deviations (n_folds, n) where there are some.

        Of predictions (n_members, n) of each model and their `own` deviations, where these are known. The deviation of
        an ensemble is how far its members lie apart. Models that are not those of the folds count as one fold.
        """
        if not isinstance(self.predictor, EnsemblePredictor):
            return members, own
        is_by_fold = self.calibration is not None and self.calibration.is_by_fold
        return self.predictor.by_fold(members, is_by_fold=is_by_fold)

    def _of_texts(
        self,
        texts: Sequence[str],
        scores: Mapping[str, Sequence[float]] | None,
        zero_shot_file: Path | None,
        embeddings: Path | None,
        compute: Callable[..., NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """What is computed (n_members, n) of sequences, some at a time."""
        given = columns_of(scores or {}, len(texts))
        scored = self.candidate_scores(file=zero_shot_file, given=list(given))
        parts = [np.empty((self.n_members, 0), dtype=np.float32)]
        with self.candidate_embeddings(embeddings) as embedded:
            for first in range(0, len(texts), BLOCK_ROWS):
                rows = slice(first, first + BLOCK_ROWS)
                try:
                    found = residues_of(texts[rows], self.task.clean, self.task.aligned_length)
                    some = {name: column[rows] for name, column in given.items()}
                    beside = None if scored is None else scored(*found, some)
                    if scored is not None and beside is not None:
                        scored.count(beside)
                    known = None if embedded is None else embedded(*found)
                    parts.append(compute(*found, scores=beside, embeddings=known))
                except SequenceError as error:
                    raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
        if scored is not None:
            scored.announce_lacking()
        return np.concatenate(parts, axis=1)

    def candidate_embeddings(self, file: Path | None = None) -> "CandidateEmbeddings | contextlib.nullcontext[None]":
        """What gives candidates their embeddings, from `file` or that of training; None where the model sees none.

        Raises:
            UserError: There is no such file, it is of another kind or width, or the model sees none and it is given.
        """
        if self._embeddings is not None and self.predictor.sees_embeddings:
            return CandidateEmbeddings(self._embeddings, None if file is None else Path(file))
        if file is not None:
            raise UserError(f"The model of {self.path} sees no embeddings: leave --embeddings {file} out.")
        return contextlib.nullcontext()

    def candidate_scores(
        self,
        *,
        file: Path | None = None,
        sums: bool = False,
        given: Sequence[str] = (),
        alignment: Path | None = None,
    ) -> CandidateScores | None:
        """What gives candidates their score columns; None where the model sees none.

        Raises:
            UserError: A column that the model sees is nowhere to be had (see `datasets.scores.candidates`), or scores
                are given for an experiment that was trained without such.
        """
        scores = self.scores
        check_given(scores, self.path, self._announce, file=file, given=given, alignment=alignment)
        if scores is None or not scores.used:
            return None
        return CandidateScores(
            scores,
            wild_type=self.task.wild_type,
            first_position=self.task.first_position,
            chains=self.task.chains,
            file=None if file is None else Path(file),
            sums=sums,
            given=given,
            alignment=alignment,
            models=self._models,
            cache_dir=self._cache_dir,
            announce=self._announce,
        )

    def members_of(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        *,
        scores: NDArray[np.float32] | None = None,
        embeddings: Embeddings | None = None,
    ) -> NDArray[np.float32]:
        """Return what each model predicts, see `Predictor.__call__`, once it is known to rank something.

        Raises:
            UserError: A prediction is not finite, or the ensemble predicts one value whatever the sequence is.
            SequenceError: See `Predictor.__call__`.
        """
        members = self.predictor(residues, lengths, check, scores=scores, embeddings=embeddings)
        n_bad = (~np.isfinite(members)).sum(axis=1)
        if n_bad.any():
            worst = int(n_bad.argmax())
            scaled = "" if self.ensemble is None else f", or the scales in {self.path} were changed"
            raise UserError(
                f"{n_bad[worst]} of {len(lengths)} predictions of {self._weights[worst]} are not finite, so they rank "
                f"nothing: its training diverged, or it was damaged{scaled}; predict with another experiment, or "
                "search again."
            )
        if len(lengths) and not self._is_known_to_vary:
            some = None if scores is None else scores[:1]
            prediction = mean_of(members, self.weights)
            predict = partial(self.predictor, check=check)
            check_variation(self.path, predict, self.weights, prediction, residues[:1], lengths[:1], some, embeddings)
            self._is_known_to_vary = True
        return members
