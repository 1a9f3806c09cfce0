"""A frozen experiment together with its weights, ready to predict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS, residues_of
from datasets.common.errors import SequenceError, UserError
from datasets.common.paths import Places
from datasets.scores.candidates import CandidateScores
from datasets.sequences.alphabet import ALPHABET
from search.experiments.ensemble import find_members
from search.experiments.experiment import load_experiment
from search.stats.calibration import LEVEL, Calibrated
from search.training.predictor import Predictor

_N_VARIANTS = 64


class TrainedExperiment:
    """Predicts with an experiment's weights: the ensemble that `confirm` left, or the weights of the search.

    Attributes:
        config: The run. provenance: where its numbers come from. task: what is predicted, `task.units` in what unit.
        origin: Whose weights they are, "search" or "confirm".
        familiar: What is known of the rows that they were trained on; None of experiments of older versions.
        calibration: What intervals are made of, for these weights; None of experiments that hold none.
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
        members = find_members(path, experiment, announce)
        self.path = path
        self.config, self.provenance = experiment.config, experiment.provenance
        self.origin = members.origin
        self.familiar = None if experiment.familiar is None else experiment.familiar[self.origin]
        known = experiment.calibration
        self.calibration = known.pooled() if known is not None and self.origin == "confirm" else known
        self._weights = members.weights
        self._cache_dir = places.cache_dir
        self._is_known_to_vary = False
        self.predictor = Predictor(
            self.config,
            members.weights,
            places=places,
            device=device,
            announce=announce,
            micro_batch_tokens=self.provenance.micro_batch_tokens,
        )
        self.task = self.predictor.task
        if self.predictor.backbone != self.provenance.backbone:
            raise UserError(
                f"{path} was trained on other pretrained weights ({self.provenance.backbone}) than what was found "
                f"({self.predictor.backbone}): name the right folder with --weights-dir, or use the torch they were "
                "drawn with."
            )

    @property
    def n_members(self) -> int:
        """The models of the ensemble, one or more."""
        return self.predictor.n_members

    def predict(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        zero_shot_file: Path | None = None,
    ) -> NDArray[np.float32]:
        """Return the predictions (n,) of n whole sequences, the mean of the ensemble, in the assay's unit.

        The sequences are a list, an array or a Series of them, or anything else that yields them in order. Score
        columns that the experiment was trained with are given in `scores` (n numbers by the name of each, NaN where one
        is missing) or in a file; those that are computed from the sequences need neither.

        Raises:
            UserError: One is no text, holds no residue or one outside the alphabet, or is longer than the model takes;
                or the weights predict what `members_of` refuses.
            TypeError: It is no list of sequences, but one sequence, say.
        """
        return mean_of(self.predict_members(sequences, scores, zero_shot_file=zero_shot_file))

    def predict_members(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        zero_shot_file: Path | None = None,
    ) -> NDArray[np.float32]:
        """Return the predictions (n_members, n) of each model; arguments and errors are those of `predict`."""
        return self._of_texts(_texts(sequences), scores, zero_shot_file, self.members_of)

    def _of_texts(
        self,
        texts: Sequence[str],
        scores: Mapping[str, Sequence[float]] | None,
        zero_shot_file: Path | None,
        compute: Callable[..., NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """What is computed (n_members, n) of sequences, some at a time."""
        given = _columns(scores or {}, len(texts))
        scored = self.candidate_scores(file=zero_shot_file, given=list(given))
        parts = [np.empty((self.n_members, 0), dtype=np.float32)]
        for first in range(0, len(texts), BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            try:
                found = residues_of(texts[rows], self.task.clean)
                beside = (
                    None if scored is None else scored(*found, {name: column[rows] for name, column in given.items()})
                )
                parts.append(compute(*found, scores=beside))
            except SequenceError as error:
                raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
        return np.concatenate(parts, axis=1)

    def predict_intervals(
        self,
        sequences: Iterable[str],
        scores: Mapping[str, Sequence[float]] | None = None,
        *,
        level: float = LEVEL,
        zero_shot_file: Path | None = None,
    ) -> Calibrated:
        """Return the intervals of n sequences of the kind that was validated (`calibration.validated`).

        What lies outside is not looked for. Errors are those of `predict`, and that there are no intervals at a level.
        """
        if self.calibration is None:
            raise UserError(f"{self.path} holds no errors on validated rows: export it with this version.")
        if not 0 < level < 1:
            raise UserError(f"level={level} is not valid: expected a number above 0 and below 1, such as 0.9.")
        texts = _texts(sequences)
        members = self.predict_members(texts, scores, zero_shot_file=zero_shot_file)
        asked = self.predictor.deviation if self.calibration.asks_deviation else None
        own = None if asked is None else self._of_texts(texts, scores, zero_shot_file, asked)
        return self.calibration(members, own, level)

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
            UserError: A column that the model sees is nowhere to be had; see `datasets.scores.candidates`.
        """
        if self.config.scores is None or not self.config.scores.used:
            return None
        return CandidateScores(
            self.config.scores,
            wild_type=self.task.wild_type,
            file=file,
            sums=sums,
            given=given,
            alignment=alignment,
            cache_dir=self._cache_dir,
            announce=lambda sentence: None,  # training said what was found
        )

    def members_of(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        *,
        scores: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return what each model predicts, see `Predictor.__call__`, once it is known to rank something.

        Raises:
            UserError: A prediction is not finite, or the ensemble predicts one value whatever the sequence is.
            SequenceError: See `Predictor.__call__`.
        """
        members = self.predictor(residues, lengths, check, scores=scores)
        n_bad = (~np.isfinite(members)).sum(axis=1)
        if n_bad.any():
            worst = int(n_bad.argmax())
            raise UserError(
                f"{n_bad[worst]} of {len(lengths)} predictions of {self._weights[worst]} are not finite, so they rank "
                "nothing: its training diverged, or it was damaged; predict with another experiment, or search again."
            )
        if len(lengths) and not self._is_known_to_vary:
            some = None if scores is None else scores[:1]
            self._check_variation(residues[:1], lengths[:1], mean_of(members), check, some)
        return members

    def _check_variation(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        prediction: NDArray[np.float32],
        check: Callable[[], None],
        scores: NDArray[np.float32] | None,
    ) -> None:
        """Refuse a model that predicts `prediction` (n,), all the same, of everything.

        Equal predictions alone prove nothing: there may be one candidate, or several that differ only where no
        training sequence does. So the model is asked of variants of one of them, `residues` (1, L), too.
        """
        if (prediction == prediction[0]).all():
            variants = _variants(residues[0, : int(lengths[0])])
            same = None if scores is None else np.repeat(scores, len(variants), axis=0)
            found = mean_of(self.predictor(variants, np.repeat(lengths, len(variants)), check, scores=same))
            if (found == prediction[0]).all():
                raise UserError(
                    f"{self.path} predicts {prediction[0]:.6g} for every candidate and for {len(found)} variants of "
                    "the first, so its weights rank nothing: predict with another experiment, or search again."
                )
        self._is_known_to_vary = True


def _texts(sequences: Iterable[str]) -> list[str]:
    """The sequences as a list, of whatever kind they come in."""
    if isinstance(sequences, (str, bytes)):
        raise TypeError("predict takes many sequences, not one: put it into a list.")
    # Of a mapping or a table the names would be predicted, and a set has no order that predictions could follow.
    if (
        not isinstance(sequences, Iterable)
        or isinstance(sequences, (Mapping, set, frozenset))
        or hasattr(sequences, "columns")
    ):
        raise TypeError(f"predict takes a list of sequences, not a {type(sequences).__name__}: make a list of it.")
    try:
        texts = list(sequences)
    except TypeError as error:  # an array of no dimension
        raise TypeError(f"predict takes a list of sequences ({error}): make a list of them.") from None
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            shown = " ".join(repr(text).split())[:40]
            raise UserError(
                f"Sequence {row} (counted from 0): {shown} is of type {type(text).__name__}, expected a text (str) of "
                "residues; correct it or leave it out."
            )
    return texts


def _columns(scores: Mapping[str, Sequence[float]], n: int) -> dict[str, NDArray[np.float32]]:
    """Score columns (n) of n sequences by their names."""
    columns = {}
    for name, values in scores.items():
        try:
            with np.errstate(over="ignore"):
                column = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"The scores {name!r} are no numbers ({error}): give a number or NaN for each.") from None
        if np.isinf(column).any():
            raise UserError(f"The scores {name!r} hold infinite numbers: give NaN where a score is missing.")
        if column.shape != (n,):
            raise UserError(f"The scores {name!r} have the shape {column.shape}, expected a number for each of {n:,}.")
        columns[name] = column
    return columns


def _variants(residues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Variants (n, L) of a sequence (L,): some of one mutation each, spread over its length, some of many."""
    generator = np.random.default_rng(0)
    n, n_columns = _N_VARIANTS, len(residues)
    is_mutated = generator.random((2 * n, n_columns)) < 0.5
    is_mutated[:n] = False
    is_mutated[np.arange(n), np.arange(n) * n_columns // n] = True
    others = generator.choice(np.frombuffer(ALPHABET[:20].encode(), dtype=np.uint8), size=is_mutated.shape)
    return np.where(is_mutated, others, residues)


def mean_of(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """The prediction (n,) of an ensemble (n_members, n)."""
    mean: NDArray[np.float32] = members[0]
    return mean if len(members) == 1 else members.mean(axis=0, dtype=np.float64).astype(np.float32)


def deviation_of(members: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The standard deviation (n,) of an ensemble's members (n_members - 1 in the denominator); None for one member."""
    return None if len(members) == 1 else members.std(axis=0, ddof=1, dtype=np.float64).astype(np.float32)


def combined(own: NDArray[np.float32], between: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The standard deviation (n,) of an ensemble whose members know their own (n_members, n): both variances add."""
    variance: NDArray[np.float64] = np.square(own, dtype=np.float64).mean(axis=0)
    if between is not None:
        variance = variance + np.square(between, dtype=np.float64)
    deviation: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    return deviation
