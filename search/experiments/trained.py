"""A frozen experiment together with its weights, ready to predict."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS, residues_of
from datasets.common.errors import SequenceError, UserError
from datasets.common.paths import Places
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.embeddings.store import Embeddings, GivenEmbeddings
from datasets.scores.candidates import CandidateScores
from datasets.scores.description import ScoreConfig
from datasets.sequences.alphabet import ALPHABET
from search.config.run_config import language_models
from search.experiments.averages import mean_of
from search.experiments.ensemble_predictor import EnsemblePredictor
from search.experiments.experiment import load_experiment
from search.experiments.given import check_given, columns_of, texts_of
from search.experiments.weights_in_use import find_weights
from search.training.predictor import Predictor
from search.training.relevances import read_relevances

_N_VARIANTS = 64
AnyPredictor = Predictor | EnsemblePredictor
"""Takes residues, gives predictions (n_members, n)."""


class TrainedExperiment:
    """Predicts with an experiment's weights: those that `confirm` left, or those of the search.

    Attributes:
        config: The run. provenance: where its numbers come from. task: what is predicted, `task.units` in what unit.
        ensemble: The members of an experiment with several; the config and the provenance are those of the first.
        weights: (n_members,) what each model counts in the mean; None: all the same.
        origin: Whose weights they are, "search" or "confirm".
        familiar: What is known of the rows that they were trained on; None of experiments of older versions.
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
    ) -> None:
        experiment = load_experiment(path)
        found = find_weights(path, experiment, announce)
        self.path = path
        self.config, self.provenance, self.ensemble = experiment.config, experiment.provenance, experiment.ensemble
        self.origin = found[0].origin
        self.familiar = None if experiment.familiar is None else experiment.familiar[self.origin]
        self._files = [own.files for own in found]
        self._weights = [file for files in self._files for file in files]
        self._cache_dir = places.cache_dir
        self._announce, self._models = announce, language_models(places.weights_dir, announce)
        self._is_known_to_vary = False
        self._parts, self._embeddings = experiment.parts, experiment.embeddings
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
            self.predictor = ensemble = EnsemblePredictor(self.ensemble, predictors)
            self.weights = ensemble.weights
        self.task = self.predictor.task

    @property
    def n_members(self) -> int:
        """The models, one or more; of an ensemble those of all its members."""
        return self.predictor.n_members

    @property
    def relevances(self) -> dict[int, float]:
        """How much each position matters to a kernel with `model.relevance=true`; empty for any other model.

        Of the positions (1-based, of the whole sequence) that vary in training; the geometric mean of the models. See
        `search.training.relevances`. Of an experiment with members, those of the first that has some.
        """
        for part, files in zip(self._parts, self._files, strict=True):
            if found := read_relevances(files, self.task, part.config.data.crop):
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
        texts = texts_of(sequences)
        given = columns_of(scores or {}, len(texts))
        scored = self.candidate_scores(file=zero_shot_file, given=list(given))
        parts = [np.empty((self.n_members, 0), dtype=np.float32)]
        with self.candidate_embeddings(embeddings) as embedded:
            for first in range(0, len(texts), BLOCK_ROWS):
                rows = slice(first, first + BLOCK_ROWS)
                try:
                    found = residues_of(texts[rows], self.task.clean)
                    some = {name: column[rows] for name, column in given.items()}
                    beside = None if scored is None else scored(*found, some)
                    known = None if embedded is None else embedded(*found)
                    parts.append(self.members_of(*found, scores=beside, embeddings=known))
                except SequenceError as error:
                    raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
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
        scores = self._scores_in_use()
        check_given(scores, self.path, self._announce, file=file, given=given, alignment=alignment)
        if scores is None or not scores.used:
            return None
        return CandidateScores(
            scores,
            wild_type=self.task.wild_type,
            file=file,
            sums=sums,
            given=given,
            alignment=alignment,
            models=self._models,
            cache_dir=self._cache_dir,
            announce=self._announce,
        )

    def _scores_in_use(self) -> ScoreConfig | None:
        """The score columns of the training, with `use` naming all that any member sees."""
        known = self.config.scores
        used = {number for part in self._parts if part.config.scores for number in part.config.scores.used}
        if known is None or not used:
            return known
        return replace(known, use=",".join(known.names[number] for number in sorted(used)))

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
            raise UserError(
                f"{n_bad[worst]} of {len(lengths)} predictions of {self._weights[worst]} are not finite, so they rank "
                "nothing: its training diverged, or it was damaged; predict with another experiment, or search again."
            )
        if len(lengths) and not self._is_known_to_vary:
            some = None if scores is None else scores[:1]
            prediction = mean_of(members, self.weights)
            self._check_variation(residues[:1], lengths[:1], prediction, check, some, embeddings)
        return members

    def _check_variation(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        prediction: NDArray[np.float32],
        check: Callable[[], None],
        scores: NDArray[np.float32] | None,
        embeddings: Embeddings | None,
    ) -> None:
        """Refuse a model that predicts `prediction` (n,), all the same, of everything.

        Equal predictions alone prove nothing: there may be one candidate, or several that differ only where no
        training sequence does. So the model is asked of variants of one of them, `residues` (1, L), too.
        """
        if (prediction == prediction[0]).all():
            variants = _variants(residues[0, : int(lengths[0])])
            same = None if scores is None else np.repeat(scores, len(variants), axis=0)
            made_up = None if embeddings is None else _scattered(embeddings, len(variants))
            lengths = np.repeat(lengths, len(variants))
            members = self.predictor(variants, lengths, check, scores=same, embeddings=made_up)
            found = mean_of(members, self.weights)
            if (found == prediction[0]).all():
                raise UserError(
                    f"{self.path} predicts {prediction[0]:.6g} for every candidate and for {len(found)} variants of "
                    "the first, so its weights rank nothing: predict with another experiment, or search again."
                )
        self._is_known_to_vary = True


def _variants(residues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Variants (n, L) of a sequence (L,): some of one mutation each, spread over its length, some of many."""
    generator = np.random.default_rng(0)
    n, n_columns = _N_VARIANTS, len(residues)
    is_mutated = generator.random((2 * n, n_columns)) < 0.5
    is_mutated[:n] = False
    is_mutated[np.arange(n), np.arange(n) * n_columns // n] = True
    others = generator.choice(np.frombuffer(ALPHABET[:20].encode(), dtype=np.uint8), size=is_mutated.shape)
    return np.where(is_mutated, others, residues)


def _scattered(embeddings: Embeddings, n: int) -> GivenEmbeddings:
    """Made-up embeddings of n variants of the first sequence: its own, each value changed by as much as it may be."""
    first = embeddings.entry(0).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(n, *first.shape)).astype(np.float32)
    return GivenEmbeddings([*(first + noise * (np.abs(first) + 1))], embeddings.kind, embeddings.width)
