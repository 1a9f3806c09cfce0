"""Combine configurations of one study or several into one experiment: selected, brought together, exported.

The members are selected by what complete trials predicted out of fold, as their folders hold it; how their weights are
had is told in `search.experiments.member_weights`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.seeds import derive_seed
from search.experiments.confirm.candidates import trial_config
from search.experiments.experiment import Experiment, freeze, is_same_export, load_experiment, today
from search.experiments.exports import export_lock, find_export
from search.experiments.files import check_weights_folder, weights_folder
from search.experiments.member_weights import MemberWeights, place_all
from search.experiments.members import ENSEMBLE_VERSION, OWN_SCALE_VERSION, Ensemble, Member, Origins
from search.experiments.requirements import check_callbacks, check_data
from search.experiments.scales import in_unit, shares_of, together
from search.machine.environment import git_commit
from search.machine.standard_streams import announcer
from search.reporting.summary import experiment_of_trial
from search.request.combine_request import CombineRequest
from search.request.inputs import check_writable, load_split, open_existing, places_of
from search.stats.calibration import Calibration, calibrate
from search.stats.greedy_selection import Selection, select
from search.stats.intervals import ConfidenceInterval, interval
from search.storage.attributes import MANIFEST, PROTOCOL
from search.study.artifact_store import shared_files
from search.study.calibrated import fold_of_each
from search.study.combinable import MOST_OF_A_STUDY, Combinable, combinable_trials, hosts_of
from search.study.protocol import build_validation
from search.study.ranking import best_trials
from search.study.run_names import COMBINE
from search.study.study import find_study, stands_for, study_id
from search.training.predictions import VALIDATION, Predictions

if TYPE_CHECKING:
    from optuna import Study

    from datasets.splits.prepared import PreparedSplit


@dataclass(frozen=True, kw_only=True)
class Combination:
    """An ensemble that was made.

    path: Its file. experiment: what that holds. out_of_bag: the predictions that its value is the Spearman of, on the
    scale of the selection, of those validation rows that took part in it. best: the highest value of a configuration
    alone, as it was found, not corrected for its having been picked. label: of the data.
    """

    path: Path
    experiment: Experiment
    out_of_bag: Predictions
    best: float
    label: str

    @property
    def ensemble(self) -> Ensemble:
        """Its members."""
        assert self.experiment.ensemble is not None
        return self.experiment.ensemble

    @property
    def n_candidates(self) -> int:
        """From how many configurations its members were selected."""
        return self.ensemble.origins.n_candidates

    @property
    def interval(self) -> ConfidenceInterval | None:
        """Of its out-of-bag value; None where that cannot be told."""
        found = self.out_of_bag
        return interval(found.prediction, found.target) if np.ptp(found.prediction) > 0 else None


def combine(request: CombineRequest, *, deadline: float | None = None) -> Combination:
    """Select members, bring their weights together, and write the experiment.

    From `deadline` on, by `time.monotonic()`, no member is trained again: what trains is stopped.

    Raises:
        datasets.common.errors.UserError: The studies cannot be combined, or the weights of a member cannot be had.
        search.workers.run_alone.Stopped: A signal came, the time was over, or a run failed.
    """
    announce = announcer(request.quiet)
    database = open_existing(request.storage, request.runs_dir)
    studies = [find_study(database, name) for name in request.studies]
    if request.export in database.storage.study_names():
        raise UserError(
            f"--export {request.export} is the name of a study in {database.name}, whose experiment has that name: "
            "choose another."
        )
    shared = shared_files(request.artifacts)
    if shared is not None:
        for study in studies:
            for trial in best_trials(study.get_trials(deepcopy=False), MOST_OF_A_STUDY):
                shared.fetch(trial, request.runs_dir / study.study_name, only=VALIDATION)
    candidates = combinable_trials(studies, request.runs_dir, announce)
    check_writable(request.export_dir)
    _check_place(request.path, studies)
    exports = {study.study_name: _export_of(study, request.export_dir) for study in studies}
    first = candidates[0].study.study_name
    with_embeddings = [one for one in exports.values() if one.embeddings is not None]
    split = _split(request, [*with_embeddings, exports[first]][0])
    selection = _select(candidates, split, request.members)
    ensemble = _ensemble(candidates, selection, exports, split, request.runs_dir, studies)
    chosen = [candidates[number] for number in _in_order(selection.weights)]
    if shared is not None:
        for one in chosen:
            shared.fetch(one.trial, request.runs_dir / one.study.study_name)
    check_writable(request.runs_dir / COMBINE)
    folder = tempfile.TemporaryDirectory(
        prefix=f"{request.export}-", dir=request.runs_dir / COMBINE, ignore_cleanup_errors=True
    )
    with folder as beside:
        places = places_of(request.weights_dir, request.runs_dir)
        source = MemberWeights(
            runs=request.runs_dir,
            places=places,
            split=split.path,
            folder=Path(beside),
            exported=request.path,
            deadline=deadline,
            announce=announce,
        )
        ensemble, files = source.collect(chosen, ensemble)
        ensemble = _standardised(ensemble, [one.predictions for one in chosen], source.reference(ensemble, files))
        about = candidates[0].study.user_attrs
        kind = stands_for(about) or f"validated by {about[PROTOCOL]['shown']}"
        calibration = _calibration(ensemble, split, [one.predictions for one in chosen], validated=kind)
        with export_lock(request.export_dir):
            _check_place(request.path, studies)
            experiment = replace(ensemble.members[0].experiment, ensemble=ensemble, calibration=calibration)
            place_all(files, ensemble, request.path, runs=request.runs_dir)
            if not is_same_export(request.path, experiment):
                freeze(experiment, request.path)
    known, of_best = np.isfinite(selection.prediction), candidates[0].predictions
    assert candidates[0].trial.value is not None
    return Combination(
        path=request.path,
        experiment=experiment,
        out_of_bag=Predictions(
            row=of_best.row[known],
            prediction=selection.prediction[known].astype(np.float32),
            target=of_best.target[known],
        ),
        best=candidates[0].trial.value,
        label=split.label,
    )


def _export_of(study: "Study", export_dir: Path) -> Experiment:
    """The study's own experiment, which says where its data are."""
    wanted = export_dir / f"{study.study_name}.yaml"
    found = find_export(wanted, study)
    if found is None:
        others = hosts_of(study.get_trials(deepcopy=False))
        there = f" Its trials ran on {', '.join(others)}, so it may stand there: fetch {wanted.name}." if others else ""
        raise UserError(
            f"There is no experiment of study {study.study_name} in {export_dir}: name its folder with --export-dir, "
            f"or run its search command again, which exports.{there}"
        )
    experiment = load_experiment(found)
    check_callbacks(found, experiment)
    return experiment


def _split(request: CombineRequest, experiment: Experiment) -> "PreparedSplit":
    split = load_split(
        experiment.task(request.data),
        request.data_dir,
        request.runs_dir,
        announcer(request.quiet),
        weights_dir=request.weights_dir,
    )
    own = request.export_dir / f"{experiment.provenance.study}.yaml"
    check_data(own, experiment.config, experiment.provenance, split)
    return split


def _select(candidates: Sequence[Combinable], split: "PreparedSplit", most: int) -> Selection:
    first = candidates[0].predictions
    if len(first.row) and int(first.row.max()) >= len(split.lengths):
        raise UserError(f"Study {candidates[0].study.study_name} was validated on rows that its data do not have.")
    names = sorted({one.study.study_name for one in candidates})  # who repeats it all elsewhere has the same parts
    # Rows of one sequence are left out together: to have seen the one is to know the other.
    _, same = np.unique(split.residues[first.row], axis=0, return_inverse=True)
    try:
        return select(
            np.stack([one.predictions.prediction for one in candidates]),
            first.target,
            most=most,
            seed=derive_seed("ensemble", split.data_hash, *names),
            same=same.ravel(),
        )
    except ValueError as error:
        raise UserError(f"There is nothing to combine: {error}.") from None


def _calibration(
    ensemble: Ensemble, split: "PreparedSplit", predictions: Sequence[Predictions], *, validated: str
) -> Calibration | None:
    """What its intervals are made of: what its members, one of `predictions` each, predict together out of fold."""
    on_scale = [in_unit(ensemble, number, one.prediction) for number, one in enumerate(predictions)]
    prediction, spread = together(ensemble, on_scale)
    first = predictions[0]
    fold = fold_of_each(ensemble.members[0].experiment.config, split, first.row)
    return calibrate(prediction, first.target, validated=validated, fold=fold, deviation=spread)


def _in_order(weights: NDArray[np.floating]) -> list[int]:
    """The selected ones, the largest weight first."""
    return [int(number) for number in np.argsort(-weights, kind="stable") if weights[number] > 0]


def _ensemble(
    candidates: Sequence[Combinable],
    selection: Selection,
    exports: Mapping[str, Experiment],
    split: "PreparedSplit",
    runs: Path,
    studies: "Sequence[Study]",
) -> Ensemble:
    """The members with their shares, and the straight line to the assay's unit."""
    order, target = _in_order(selection.weights), candidates[0].predictions.target
    weights = selection.weights[order]
    predictions = np.stack([candidates[number].predictions.prediction for number in order])
    shares, intercept, slope = shares_of(weights, predictions, target)
    members = []
    for number, share in zip(order, shares, strict=True):
        one = candidates[number]
        export, about = exports[one.study.study_name], one.study.user_attrs[MANIFEST]
        config = trial_config(export.config, about["config"], one.trial.params)
        experiment, _ = experiment_of_trial(one.study, one.trial, config, split, runs)
        members.append(Member(experiment=experiment, share=share))
    ordered = sorted(studies, key=lambda study: study.study_name)
    origins = Origins(
        schema_version=OWN_SCALE_VERSION if _has_own_scale(members) else ENSEMBLE_VERSION,
        studies=[study.study_name for study in ordered],
        study_ids=[study_id(study) for study in ordered],
        n_candidates=len(candidates),
        date=today(),
        value=selection.value,
        n_sequences=len(target),
        intercept=intercept,
        slope=slope,
        git_commit=git_commit(),
    )
    return Ensemble(members=tuple(members), origins=origins)


def _has_own_scale(members: Sequence[Member]) -> bool:
    """Whether the line is that of the members' own scales: see `search.experiments.scales`; a ranking has none."""
    configs = [member.experiment.config for member in members]
    is_selected = build_validation(configs[0].validation).judges_selected
    return is_selected and all(config.trainer.loss != "ranking" for config in configs)


def _standardised(
    ensemble: Ensemble, predictions: Sequence[Predictions], reference: NDArray[np.floating[Any]]
) -> Ensemble:
    """The ensemble with its members' scales on test sequences, of which they predict `reference` (K, m)."""
    weights = np.array([member.share.weight for member in ensemble.members])
    own = np.stack([one.prediction for one in predictions])
    is_own = ensemble.origins.is_own_scale
    shares, intercept, slope = shares_of(weights, own, predictions[0].target, reference, is_own_scale=is_own)
    members = tuple(replace(one, share=share) for one, share in zip(ensemble.members, shares, strict=True))
    origins = replace(ensemble.origins, intercept=intercept, slope=slope)
    return replace(ensemble, members=members, origins=origins)


def _check_place(path: Path, studies: "Sequence[Study]") -> None:
    """Refuse a name under which something else stands than an ensemble of these studies, or of some of them.

    Nor may a link stand where its weights belong.
    """
    check_weights_folder(weights_folder(path))
    if not path.exists() and not path.is_symlink():
        return
    try:
        ensemble = load_experiment(path).ensemble
    except UserError:
        ensemble = None
    wanted = {study_id(study) or study.study_name for study in studies}
    if ensemble is not None:
        known = zip(ensemble.origins.study_ids, ensemble.origins.studies, strict=True)
        if {own or name for own, name in known} <= wanted:
            return
    raise UserError(f"{path} exists and is no ensemble of these studies: choose another --export, or move it away.")
