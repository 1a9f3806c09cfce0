"""What the ladder knows of each family, and of their ensemble: value, confirmation, and price."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.batches.window import LengthLimit, cut
from datasets.sequences.alphabet import GAP
from datasets.sequences.gaps import without_gaps
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from datasets.validation.protocols import Fold
from models.baselines import BASELINES
from models.metrics import spearman
from search.experiments.confirm.results import read_influence
from search.experiments.experiment import checksum
from search.experiments.exports import find_export
from search.experiments.ledger import Reading
from search.experiments.members import Ensemble
from search.stats.intervals import ConfidenceInterval, interval
from search.stats.metrics import Spread, kept_interval, spread
from search.storage.attributes import RESULT
from search.storage.database import Database
from search.study.activity import Cost, cost
from search.study.assessment import assess
from search.study.ranking import rank_of
from search.study.snapshot import StudySnapshot
from search.study.study import find_study
from search.training.predictions import Predictions, read_predictions


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """The last confirmation of a family's best trial, trained on train and validation.

    spearman: over its seeds, of which there are n_seeds. around: its interval over test sequences, None in a ledger
    from before that was kept. influence: (M,) of the test sequences (`search.stats.intervals.influence`), None where
    it is not at hand.
    """

    spearman: Spread
    n_seeds: int
    around: ConfidenceInterval | None
    influence: NDArray[np.floating[Any]] | None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One family, or the ensemble of several.

    value: Spearman of its best trial on the validation rows, None without one; `why` says why. interval: of it,
    corrected for its having been picked; None where it cannot be told. predictions: those of that trial, None where
    they are not on this machine. Of an ensemble both are out of bag.
    excess_rise: how far that trial is from what the protocol asks for (see `search.study.ranking`), 0 if it is not.
    tested: None unless that trial was confirmed. n_finished and cost: None for what was not searched. n_models: those
    that take part in a prediction. experiment: the exported file. n_members: of an ensemble, None of a family; it has
    so many of the n_finished trials that could take part, and its cost is that of training them.
    """

    model: str
    value: float | None
    why: str
    predictions: Predictions | None = None
    n_finished: int | None = None
    cost: Cost | None = None
    interval: ConfidenceInterval | None = None
    excess_rise: float = 0.0
    tested: Confirmed | None = None
    n_models: int | None = None
    experiment: Path | None = None
    n_members: int | None = None


def baseline_rungs(task: Task, split: PreparedSplit, folds: Sequence[Fold], *, crop: str | None) -> list[Rung]:
    """The scores that need no training, on the validation rows of all folds."""
    rows = np.unique(np.concatenate([fold.validation for fold in folds]))
    return [*_similarity_rungs(task, split, rows, crop=crop), *_score_rungs(split, rows)]


def _score_rungs(split: PreparedSplit, rows: NDArray[np.int64]) -> list[Rung]:
    """The bare score columns, on the validation rows that have them."""
    rungs = []
    for number, name in enumerate(split.score_names):
        assert split.scores is not None
        scored = rows[np.isfinite(split.scores[rows, number])]
        shown = name if len(scored) == len(rows) else f"{name} ({len(scored):,} of {len(rows):,})"
        rungs.append(_baseline(shown, scored, split.scores[scored, number], split.target[scored]))
    return rungs


def _similarity_rungs(task: Task, split: PreparedSplit, rows: NDArray[np.int64], *, crop: str | None) -> list[Rung]:
    if task.wild_type is None:
        why = f"{task.name} has no wild type"
        return [Rung(model=name, value=None, why=why) for name in BASELINES]
    limit = LengthLimit(max_length=None, max_residues=None, truncate=True)
    residues, _ = cut(split.residues[rows], split.lengths[rows], task=task, crop=crop, limit=limit)
    whole = np.frombuffer(task.wild_type.encode("ascii"), dtype=np.uint8)
    first, last = (int(edge[0]) for edge in task.crop(crop).window(np.array([len(whole)])))
    whole = whole[first:last]
    if task.aligned_length is not None:
        residues, whole = without_gaps(residues, residues != 0)[0], whole[whole != ord(GAP)]
    lengths = (residues != 0).sum(axis=1)
    target = split.target[rows]
    rungs = []
    for name, score in BASELINES.items():
        rungs.append(_baseline(name, rows, score(residues, lengths, whole).astype(np.float32), target))
    return rungs


def _baseline(name: str, rows: NDArray[np.int64], prediction: NDArray[np.float32], target: NDArray[np.float32]) -> Rung:
    """What needs no training, by its prediction of rows (n,) with targets (n,)."""
    value = spearman(torch.from_numpy(prediction), torch.from_numpy(target)) if len(rows) > 1 else math.nan
    is_ranked = math.isfinite(value)
    return Rung(
        model=name,
        value=value if is_ranked else None,
        why="" if is_ranked else "it is the same for all validation sequences",
        predictions=Predictions(row=rows, prediction=prediction, target=target) if is_ranked else None,
        n_finished=None,
        cost=None,
        interval=interval(prediction, target) if is_ranked else None,
    )


def study_rung(
    database: Database, study_name: str, model: str, found: Sequence[Reading], *, runs: Path, export_dir: Path
) -> Rung:
    """The best trial of a family's study, and its latest confirmation.

    Raises:
        UserError: There is no such study.
    """
    study = find_study(database, study_name)
    now = StudySnapshot.of(study)
    best = now.best
    rung = Rung(model=model, value=None, why="", n_finished=now.counts.n_finished, cost=cost(now.trials))
    if best is None:
        return replace(rung, why="no trial is complete")
    wanted = export_dir / f"{study_name}.yaml"
    experiment = find_export(wanted, study)
    assessment = assess(study, runs / study_name)
    return replace(
        rung,
        value=best.value,
        interval=assessment.interval if assessment else None,
        excess_rise=rank_of(best)[0],
        predictions=read_predictions(runs / study_name, best.number),
        n_models=len(best.user_attrs[RESULT]["values"]),
        tested=_tested(now, best.number, found, experiment or wanted),
        experiment=experiment,
    )


def _tested(now: StudySnapshot, trial: int, found: Sequence[Reading], experiment: Path) -> Confirmed | None:
    """The last confirmation of a trial, on the data of its study."""
    asked = (now.name, trial, now.about.get("data_hash"))
    own = [one for one in found if (one.study, one.trial, one.data_hash) == asked and one.members is None]
    return _confirmed(own[-1], experiment) if own else None


def _confirmed(reading: Reading, experiment: Path) -> Confirmed:
    values = reading.values["train_and_validation"]
    seeds = values["per_seed"]["spearman"]
    return Confirmed(
        spearman=spread(seeds),
        n_seeds=len(seeds),
        around=kept_interval(values),
        influence=read_influence(experiment, reading),
    )


def ensemble_rung(
    database: Database,
    ensemble: Ensemble,
    path: Path,
    found: Sequence[Reading],
    *,
    out_of_bag: Predictions,
    around: ConfidenceInterval | None,
) -> Rung:
    """The ensemble whose file is at `path`; `around` is the interval of its out-of-bag value.

    Raises:
        UserError: The file cannot be read.
    """
    trained = []
    for member in ensemble.members:
        own = member.experiment.provenance
        trials = find_study(database, own.study).get_trials(deepcopy=False)
        trained += [trial for trial in trials if trial.number == own.trial]
    of_file = checksum(path)
    readings = [one for one in found if one.members is not None and one.checksum == of_file]
    return Rung(
        model="ensemble",
        value=ensemble.origins.value,
        why="",
        predictions=out_of_bag,
        n_finished=ensemble.origins.n_candidates,
        cost=cost(trained),
        interval=around,
        tested=_confirmed(readings[-1], path) if readings else None,
        n_models=sum(ensemble.n_models),
        experiment=path,
        n_members=len(ensemble.members),
    )


def on_rows_of(other: Rung, rung: Rung) -> Rung:
    """The rung as it is on the validation rows of another that was judged by a part of its own; else as it is."""
    own, wanted = rung.predictions, other.predictions
    if own is None or wanted is None or len(own.row) <= len(wanted.row):
        return rung
    shared = np.isin(own.row, wanted.row)
    kept = Predictions(row=own.row[shared], prediction=own.prediction[shared], target=own.target[shared])
    if len(kept.row) < len(wanted.row) or np.ptp(kept.prediction) == 0:
        return rung
    value = spearman(torch.from_numpy(kept.prediction), torch.from_numpy(kept.target))
    return replace(rung, predictions=kept, value=value)
