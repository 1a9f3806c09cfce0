"""What an experiment predicts of variants, trained on what was known before a round of measurement.

An ensemble keeps its members and what each of them counts, which its search chose. On which scale they are averaged is
found again: by what they predict of the variants to choose from, as it was by what they predicted of test sequences.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.validation.rounds import BeforeRound
from search.config.run_config import RunConfig
from search.experiments.confirm.candidates import of_parts
from search.experiments.ensemble_predictor import EnsemblePredictor
from search.experiments.experiment import Experiment
from search.experiments.members import Ensemble
from search.experiments.scales import in_unit, shares_of, together
from search.machine.hardware import usable_cores
from search.stats.calibration import Calibration, calibrate
from search.storage.ending import Ending
from search.study.calibrated import calibration_of, fold_of_each
from search.training.predict_split import beside_rows
from search.training.predictions import Predictions, predictions_in
from search.training.predictor import Predictor
from search.training.result import Result
from search.workers.display import Display
from search.workers.jobs import isolated_run
from search.workers.run_alone import Stopped, check_backbone, outcome
from search.workers.signals import Signals

_FOLDS = 5
_VALIDATED = "random"
_NO_ERRORS = "its predictions out of fold say nothing of their errors"


class NotPlayed(Exception):
    """A round that cannot be played; its text says why, behind a colon."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Foretold:
    """What is predicted of n variants: members (n_models, n), by each model. deviation: (n,), calibrated.

    weights: (n_models,), what each model counts; None: all the same.
    """

    members: NDArray[np.float32]
    deviation: NDArray[np.floating[Any]]
    weights: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A config, trained: its predictions out of fold, None where there are none, and what predicts with its weights."""

    name: str
    config: RunConfig
    weights: list[Path]
    predictions: Predictions | None
    predictor: Predictor


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """Trains an experiment again on what was known before a round of its split, in five folds, dealt by `seed`."""

    experiment: Experiment
    split: PreparedSplit
    places: Places
    seed: int
    display: Display
    signals: Signals

    def __call__(self, number: int, rows: NDArray[np.int64], folder: Path) -> Foretold:
        """What is predicted of some rows of the split by what was known before round `number`, counted from 0.

        `folder` is for weights.

        Raises:
            NotPlayed: A run came to nothing, or its predictions to no calibration.
            UserError: The pretrained weights are not those of the experiment.
            search.workers.run_alone.Stopped: Ctrl-C came, or a run failed.
        """
        trained = list(self._trained(number, folder))
        if self.experiment.ensemble is None:
            return self._of_one(trained[0], rows)
        return self._of_members(self.experiment.ensemble, trained, rows)

    def _trained(self, number: int, folder: Path) -> Iterator[_Trained]:
        candidates, parts = of_parts(self.experiment), self.experiment.parts
        division = BeforeRound(number=number, n_folds=_FOLDS, seed=self.seed)
        for place, (candidate, part) in enumerate(zip(candidates, parts, strict=True)):
            run = candidate.run(candidate.config.seed, "train_and_validation")
            config, known = replace(run, validation=division.tree), part.provenance.backbone
            check_backbone(config, known, self.split.path, self.places, self.display, self.signals)
            directory = folder / str(number) / f"member{place}" if len(parts) > 1 else folder / str(number)
            child = isolated_run(config, self.split.path, self.places, directory, cores=usable_cores())
            result = outcome(child, self.display, self.signals, shows_values=False)
            assert isinstance(result, Result)
            what = "the config" if self.experiment.ensemble is None else candidate.name
            if result.ending != Ending.COMPLETE:
                raise NotPlayed(f"{what}, trained on what was known before, ended {result.ending}, {result.reason}")
            weights = [Path(name) for name in result.checkpoints]
            micro_batch = result.micro_batch_tokens
            yield _Trained(
                name=what,
                config=config,
                weights=weights,
                predictions=predictions_in(directory),
                predictor=Predictor(config, weights, places=self.places, micro_batch_tokens=micro_batch),
            )

    def _of_one(self, one: _Trained, rows: NDArray[np.int64]) -> Foretold:
        calibration = None
        if one.predictions is not None:
            calibration = calibration_of(
                one.config, self.split, one.predictions, validated=_VALIDATED, weights=one.weights, places=self.places
            )
        if calibration is None:
            raise NotPlayed(_NO_ERRORS)
        members, deviations = [], []
        for some in self._blocks(rows):
            given: dict[str, Any] = beside_rows(one.config, self.split, some)
            residues, lengths = self.split.residues[some], self.split.lengths[some]
            predicted = one.predictor(residues, lengths, **given)
            own = one.predictor.deviation(residues, lengths, **given) if calibration.asks_deviation else None
            members.append(predicted)
            deviations.append(calibration.deviation(predicted, own))
        return Foretold(members=_finite(np.concatenate(members, axis=1)), deviation=np.concatenate(deviations))

    def _of_members(self, before: Ensemble, trained: list[_Trained], rows: NDArray[np.int64]) -> Foretold:
        predicted = [_finite(np.concatenate(list(self._predicted(one, rows)), axis=1)) for one in trained]
        ensemble, calibration = self._scaled(before, trained, predicted)
        members = np.concatenate([in_unit(ensemble, number, own) for number, own in enumerate(predicted)])
        predictor = EnsemblePredictor(ensemble, [one.predictor for one in trained])
        deviation = calibration.deviation(*predictor.by_fold(members, is_by_fold=calibration.is_by_fold))
        return Foretold(members=_finite(members), deviation=deviation, weights=predictor.weights)

    def _scaled(
        self, before: Ensemble, trained: list[_Trained], predicted: list[NDArray[np.float32]]
    ) -> tuple[Ensemble, Calibration]:
        """The ensemble on the scale of what its members predict now, of each (n_models, n); and its calibration."""
        found = [one.predictions for one in trained if one.predictions is not None]
        if len(found) < len(trained) or any(not np.array_equal(one.row, found[0].row) for one in found):
            raise NotPlayed(_NO_ERRORS)
        for one, own in zip(trained, found, strict=True):
            if np.ptp(own.prediction) == 0:
                raise NotPlayed(f"{one.name}, trained on what was known before, predicts the same of every variant")
        counts = np.array([member.share.weight for member in before.members])
        reference = np.stack([own.mean(axis=0, dtype=np.float64) for own in predicted])
        shares, intercept, slope = shares_of(
            counts, np.stack([own.prediction for own in found]), found[0].target, reference
        )
        ensemble = replace(
            before,
            members=tuple(replace(one, share=share) for one, share in zip(before.members, shares, strict=True)),
            origins=replace(before.origins, intercept=intercept, slope=slope),
        )
        on_scale = [in_unit(ensemble, number, own.prediction) for number, own in enumerate(found)]
        prediction, spread = together(ensemble, on_scale)
        fold = fold_of_each(trained[0].config, self.split, found[0].row)
        calibration = calibrate(prediction, found[0].target, validated=_VALIDATED, fold=fold, deviation=spread)
        if calibration is None:
            raise NotPlayed(_NO_ERRORS)
        return ensemble, calibration

    def _predicted(self, one: _Trained, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        for some in self._blocks(rows):
            given: dict[str, Any] = beside_rows(one.config, self.split, some)
            yield one.predictor(self.split.residues[some], self.split.lengths[some], **given)

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(rows), BLOCK_ROWS):
            yield rows[start : start + BLOCK_ROWS]
            if self.signals.exit_status:
                raise Stopped(self.signals.exit_status)


def _finite(predictions: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(predictions).all():
        raise NotPlayed("some predictions of the pool are not finite")
    return predictions
