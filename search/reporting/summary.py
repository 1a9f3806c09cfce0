"""What a study ends with: the best trial, what mattered, the frozen experiment and the next command."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import RunConfig
from search.experiments.experiment import (
    SCHEMA_VERSION,
    Experiment,
    Provenance,
    build_provenance,
    freeze,
    is_same_export,
    today,
)
from search.experiments.exports import choose_place, export_lock
from search.experiments.files import MISSING, is_below, place_checkpoints, trial_checkpoints
from search.machine import own_models
from search.machine.environment import git_commit
from search.machine.tables import in_columns
from search.storage.attributes import EXHAUSTED, N_TARGET, PROTOCOL, REASON, result_of
from search.study.artifacts import hash_or_missing
from search.study.assessment import Assessment
from search.study.calibrated import calibration_of
from search.study.combinable import hosts_of, how_to_fetch
from search.study.config import StudyConfig
from search.study.endings import ending_of
from search.study.snapshot import MIN_TRIALS, StudySnapshot
from search.study.study import stands_for, study_id
from search.study.training_rows import familiar_rows
from search.study.warm_start.choice import origin_of
from search.training.predictions import read_predictions
from search.training.result import trial_folder
from search.workers.display import shown

_OF_RESULT = (
    *("threads", "micro_batch_tokens", "backbone", "device", "value", "values", "best_epochs", "n_parameters"),
    *("versions", "machine"),
)
"""What of a trial's result stands in its provenance as it is."""


def export_best(
    study: Study,
    best: FrozenTrial,
    config: StudyConfig,
    split: PreparedSplit,
    path: Path,
    *,
    runs: Path,
    announce: Callable[[str], None],
    places: Places | None = None,
) -> Path:
    """Write the best trial as a frozen experiment, and its weights beside it; return where it stands.

    That is `path`, unless an experiment there must not be replaced (see `search.experiments.exports`). Nothing is
    written where the same stands already, so that what was made with an experiment stays valid. Checkpoints are found
    below `runs`; `announce` is told of those that are not there. With `places`, where pretrained weights are, a model's
    own deviation may be the scale of its intervals.

    Raises:
        UserError: What the database holds of the trial is not valid, or the experiment cannot be written.
    """
    # The values that were sampled, and every other as it was fixed when the trial ran: the manifest guards both.
    experiment, has_hashes = experiment_of_trial(study, best, config.run(best.params), split, runs)
    provenance = experiment.provenance
    checkpoints = trial_checkpoints(runs, study.study_name, best.number, len(provenance.values))
    with export_lock(path.parent):
        # Decided before anything is written, the weights too.
        path = choose_place(path, study, announce)
        if not has_hashes and set(provenance.weight_hashes) != {MISSING}:
            announce(
                f"Trial {best.number} is of an older version, which recorded no hashes of its weights: what stands in "
                f"{trial_folder(runs / study.study_name, best.number)} is exported as it is."
            )
        # The weights first: whoever reads in between finds that they are not those whose hashes the file names.
        missing = list[str]()
        place_checkpoints(checkpoints, provenance.weight_hashes, path, missing.append, runs=runs)
        for sentence in missing:
            announce(f"{sentence} {_how_to_have(study, best, runs)}")
        if not is_same_export(path, experiment):
            predictions = read_predictions(runs / study.study_name, best.number)
            if predictions is not None:
                kind = stands_for(study.user_attrs) or f"validated by {provenance.protocol}"
                calibration = calibration_of(
                    experiment.config, split, predictions, validated=kind, weights=checkpoints, places=places
                )
                experiment = replace(experiment, calibration=calibration)
            freeze(experiment, path)
    return path


def _how_to_have(study: Study, best: FrozenTrial, runs: Path) -> str:
    """Which machine holds what is missing of a trial, and what brings it here."""
    if not hosts_of([best]):
        return f"Put the files of trial {best.number} back, or run `train --experiment`."
    fetch = how_to_fetch(study, [best], runs)
    return f"Of trial {best.number}: {fetch} Then run the same command again; --artifacts spares that."


def experiment_of_trial(
    study: Study, trial: FrozenTrial, run: RunConfig, split: PreparedSplit, runs: Path
) -> tuple[Experiment, bool]:
    """A complete trial as an experiment; and whether the trial recorded the hashes of its weights.

    Where it did not, they are those of the files that are found, or "missing".

    Raises:
        UserError: What the database holds of the trial is not valid.
    """
    try:
        provenance, has_hashes = _provenance(study, trial, run, split, runs)
    except (UserError, KeyError, TypeError, ValueError) as error:
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(
            f"Trial {trial.number} of study {study.study_name} cannot be exported, for what the database holds of it "
            f"is not valid ({why}): search under another --study-name."
        ) from None
    result = result_of(trial, study.study_name)
    # A trial of an older version did not say how much its model takes of a sequence.
    familiar = familiar_rows(run, split, result["max_residues"]) if "max_residues" in result else None
    return Experiment(config=run, provenance=provenance, familiar=familiar), has_hashes


def _provenance(
    study: Study, best: FrozenTrial, run: RunConfig, split: PreparedSplit, runs: Path
) -> tuple[Provenance, bool]:
    """What is known of the trial, and whether that includes the hashes of its weights."""
    result = result_of(best, study.study_name)
    hashes = result.get("weight_hashes")
    if not hashes:  # of the files that were kept, which may stand on another machine by now
        files = trial_checkpoints(runs, study.study_name, best.number, len(result["values"]))
        found = [hash_or_missing(file) if is_below(file, runs) else MISSING for file in files]
    now = StudySnapshot.of(study)
    n_finished = now.counts.n_finished
    known = {
        "schema_version": SCHEMA_VERSION,
        "study": now.name,
        "study_id": study_id(study),
        "model": now.about["model"],
        "trial": best.number,
        "n_finished": n_finished,
        # A space that is used up ends a study before its budget does.
        "n_target": n_finished if now.attributes.get(EXHAUSTED) else now.attributes[N_TARGET],
        "date": today(),
        "seed": run.seed,
        "protocol": now.attributes[PROTOCOL]["shown"],
        **{key: result[key] for key in _OF_RESULT},
        "seconds": round(result["seconds"], 3),
        # A file may be called as it likes.
        "data": "".join(letter if letter.isprintable() else "?" for letter in split.label),
        "data_hash": split.data_hash,
        "weight_hashes": hashes or found,
        "git_commit": git_commit(),
        "model_source": own_models.source_hash(str(run.model["_target_"])),
        "warm_start": origin_of(now.about["warm_start"]) if "warm_start" in now.about else None,
    }
    return build_provenance(known), bool(hashes)


def print_outcome(
    study: Study,
    best: FrozenTrial | None,
    split: PreparedSplit,
    export: Path,
    next_commands: Sequence[str],
    assessment: Assessment | None,
) -> None:
    """Print how the study ended; `assessment` says what its best value is worth, `next_commands` how to go on."""
    now = StudySnapshot.of(study)
    counts = now.counts
    lines = [
        f"Study {now.name}: {counts.n_finished} finished trials ({counts.n_complete} complete, "
        f"{counts.n_pruned} pruned), {now.failed_words}.",
        *(f"The trials have {words}." for words in now.hours_words),
    ]
    if best is None:
        lines.append(f"No trial is complete, so there is nothing to export. {_why_none(now.trials)}")
    else:
        protocol = now.attributes[PROTOCOL]
        lines += [
            f"Best: trial {best.number}, validation Spearman {best.value:.4f} "
            f"({protocol['shown']}, {protocol['n_sequences']} sequences; {split.label})",
            *now.remarks,
            *(assessment.sentences if assessment else ()),
            *([in_columns(_rows(best, study, counts.n_complete))] if best.params else []),
            f"Exported: {export}",
            *(f"{word}: {command}" for word, command in zip(("Next", "Or"), next_commands, strict=False)),
        ]
    print("\n".join(lines), flush=True)


def _rows(best: FrozenTrial, study: Study, n_complete: int) -> list[list[str]]:
    """Hyperparameters, values and importances, the most important first; without importances no such column."""
    importances = _importances(study) if n_complete >= MIN_TRIALS else {}
    rows = [["hyperparameter", "value", "importance"]]
    for name in sorted(best.params, key=lambda name: -importances.get(name, 0.0)):
        rows.append([name, shown(best.params[name]), f"{importances[name]:.2f}" if name in importances else ""])
    return rows if importances else [row[:2] for row in rows]


def _importances(study: Study) -> dict[str, float]:
    """Optuna's importances; empty where the trials do not suffice for them, and where Optuna fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(study))
    except Exception:  # whatever it is: the best trial is told without them
        return {}


def _why_none(trials: Sequence[FrozenTrial]) -> str:
    """The endings of the trials, by how often, each with one reason."""
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        if trial.state in (TrialState.PRUNED, TrialState.FAIL) and (ending := ending_of(trial)):
            reasons.setdefault(ending.words, []).append(str(trial.user_attrs.get(REASON, "")).strip())
    words = [
        f"{len(texts)} {ending}" + (f" ({texts[-1].splitlines()[-1]})" if texts[-1] else "")
        for ending, texts in reasons.items()
    ]
    return f"Its trials: {'; '.join(words)}." if words else "None was run."
