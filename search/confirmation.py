"""Confirm experiments: trained with new seeds and measured on the test set, which nothing else reads.

Everything is trained, and the test sequences are predicted, before a test target is read; what is found then goes into
the ledger first, that it was read into the study's database, and after that to whoever asked.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from datasets.common.errors import UserError
from datasets.common.files import check_output
from datasets.common.paths import Places
from search.experiments.confirm.all_folds import check_all_folds, check_complete, folds_of
from search.experiments.confirm.candidates import Candidate, TrainedOn, of_parts, of_study
from search.experiments.confirm.coverage import coverage_of
from search.experiments.confirm.kept_runs import folder_of
from search.experiments.confirm.recalibrated import Rows, held_back, recalibrated
from search.experiments.confirm.results import Confirmation, Measured, leave_weights
from search.experiments.confirm.seeds import train_seeds
from search.experiments.experiment import Experiment, checksum, load_experiment, today
from search.experiments.files import check_exported_weights, ledger_file
from search.experiments.ledger import append, read
from search.experiments.members import part_paths
from search.experiments.requirements import check_callbacks, check_data
from search.experiments.sealed import check_unchanged
from search.machine.standard_streams import announcer
from search.request.confirm_request import ConfirmRequest
from search.request.inputs import load_split, places_of
from search.stats.metrics import UnusablePredictions, check_predictions
from search.storage.rows.value_checks import line
from search.study.run_names import CONFIRM
from search.workers.child import prepare_children
from search.workers.jobs import isolated_prediction
from search.workers.messages import PredictionsWritten
from search.workers.run_alone import Stopped, check_backbone, outcome
from search.workers.signals import Signals

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.experiments.readings import Count
    from search.workers.display import Display


@dataclass(frozen=True, kw_only=True)
class Order:
    """An experiment that is to be confirmed: its file, what that holds, its data, `held_back` rows, what to train."""

    path: Path
    checksum: str
    experiment: Experiment
    split: "PreparedSplit"
    held_back: Rows | None
    candidates: tuple[Candidate, ...]


def confirm(
    request: ConfirmRequest, *, tell: "Callable[[Confirmation, Count], None]" = lambda *_: None
) -> "list[tuple[Confirmation, Count]]":
    """Confirm experiments; each confirmation with how often its test set was read, wherever that is known.

    Args:
        request: What is confirmed.
        tell: Told each confirmation as soon as it stands in the ledger.

    Raises:
        datasets.common.errors.UserError: An experiment cannot be confirmed.
        search.workers.run_alone.Stopped: A signal came, or a run failed.
    """
    checksums = [checksum(path) for path in request.experiments]
    experiments = [load_experiment(path, announcer(request.quiet)) for path in request.experiments]
    for path, experiment in zip(request.experiments, experiments, strict=True):
        _check(path, experiment, is_unfinished_welcome=request.unfinished)
    if request.all_folds:
        check_all_folds(request.experiments, experiments, [one.task(request.data) for one in experiments])
    prepare_children()
    orders = [_order(request, *one) for one in zip(request.experiments, checksums, experiments, strict=True)]
    if request.all_folds:
        check_complete(experiments, orders[0].split)

    # Some of it is needed at the end alone, but whoever updates the checkout meanwhile is to change nothing here.
    import datasets.splits.held_out
    import datasets.tables.survey
    import datasets.tasks.split_zip  # noqa: F401
    import search.experiments.readings
    import search.training.checkpoint.progress
    import search.training.predict_split  # noqa: F401
    from search.machine.environment import git_commit
    from search.workers.display import Display, PlainDisplay

    git_commit()  # is remembered
    display = Display() if request.quiet else PlainDisplay(1)
    signals = Signals(lambda sentence: None)
    found = []
    with signals.installed():
        for order in orders:
            work = _Work(order=order, request=request, display=display, signals=signals)
            confirmation = work.confirm()
            found.append((confirmation, work.note(confirmation)))
            tell(*found[-1])
    return found


def _check(path: Path, experiment: Experiment, *, is_unfinished_welcome: bool) -> None:
    """Refuse what must not be confirmed, before anything costs time."""
    for problem in line("The name of an experiment's file", path.stem):
        raise UserError(f"{problem}: rename it, since readings of the test set are noted with it.")
    for place, part in zip(part_paths(path, experiment), experiment.parts, strict=True):
        check_callbacks(path, part)
        before = part.provenance
        if before.n_target is not None and before.n_finished < before.n_target and not is_unfinished_welcome:
            anew = "whose end exports anew" if experiment.ensemble is None else "and combine anew"
            raise UserError(
                f"{path} was exported when study {before.study!r} had {before.n_finished} of its {before.n_target} "
                f"trials: finish the search first, {anew}, or confirm it all the same with --unfinished."
            )
        check_exported_weights(place, before.weight_hashes)
    read(ledger_file(path))
    check_output(ledger_file(path), "the ledger")


def _order(request: ConfirmRequest, path: Path, before: str, experiment: Experiment) -> Order:
    check_unchanged(path, before)
    task = experiment.task(request.data)
    split = load_split(
        task, request.data_dir, request.runs_dir, announcer(request.quiet), weights_dir=request.weights_dir
    )
    check_data(path, experiment.config, experiment.provenance, split)
    rows, candidates = held_back(experiment, split), _candidates(request, path, experiment)
    return Order(path=path, checksum=before, experiment=experiment, split=split, held_back=rows, candidates=candidates)


def _candidates(request: ConfirmRequest, path: Path, experiment: Experiment) -> tuple[Candidate, ...]:
    if request.top_k is None:
        return of_parts(experiment)
    if experiment.ensemble is not None:
        raise UserError(f"--top-k is of the trials of one study, and {path} has members of its own: leave it out.")

    from search.request.inputs import open_existing
    from search.study.study import find_study

    try:
        study = find_study(open_existing(request.storage, request.runs_dir), experiment.provenance.study)
    except UserError as error:
        raise UserError(f"--top-k needs the study of {path}, {experiment.provenance.study!r}: {error}") from None
    return of_study(study, experiment, request.top_k)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A candidate over all seeds: its weights, and the predictions file, a row a seed, first of train+validation."""

    candidate: Candidate
    weights: dict[TrainedOn, list[Path]]
    predictions: Path
    device: str


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is done for one experiment.

    All methods but `note` raise `Stopped` where a signal came, or a run failed.
    """

    order: Order
    request: ConfirmRequest
    display: "Display"
    signals: Signals

    @property
    def seeds(self) -> range:
        """The seeds to train with."""
        first = 1 + max(part.config.seed for part in self.order.experiment.parts)  # skip the search's own
        return range(first, first + self.request.seeds)

    @property
    def places(self) -> Places:
        """Where runs find what is not their own."""
        return places_of(self.request.weights_dir, self.request.runs_dir)

    def confirm(self) -> Confirmation:
        """Train, predict, read the test set, write the ledger."""
        order = self.order
        known = [part.provenance.backbone for part in order.experiment.parts]
        backbones = [
            check_backbone(candidate.config, backbone, order.split.path, self.places, self.display, self.signals)
            for candidate, backbone in zip_longest(order.candidates, known)
        ]
        name = f"{order.path.stem}-{order.checksum[:12]}"
        with folder_of(self.request.runs_dir.absolute() / CONFIRM, name) as folder:
            is_one = order.experiment.ensemble is None
            names = [f"trial-{one.trial:05d}" if is_one else f"member{i}" for i, one in enumerate(order.candidates)]
            trained = [
                self._train(candidate, backbone, folder / name)
                for candidate, backbone, name in zip(order.candidates, backbones, names, strict=True)
            ]
            confirmation = self._measure(trained)
            own = [one.weights["train_and_validation"] for one in trained[: len(order.experiment.parts)]]
            leave_weights(confirmation, own)
            return confirmation

    def _train(self, candidate: Candidate, backbone: str | None, folder: Path) -> _Trained:
        order = self.order
        weights, device = train_seeds(
            candidate,
            self.seeds,
            split=order.split,
            backbone=backbone,
            folder=folder,
            places=self.places,
            display=self.display,
            signals=self.signals,
            title=order.path.stem,
            fail=self._fail,
        )
        config = candidate.run(self.seeds[0], "train_and_validation")
        everything = [path for files in weights.values() for path in files]
        known, place = order.experiment.calibration, folder / "predictions"
        is_one = order.experiment.ensemble is None
        is_asked = is_one and known is not None and known.asks_deviation and candidate == order.candidates[0]
        rows = order.held_back if candidate in order.candidates[: len(order.experiment.parts)] else None
        child = isolated_prediction(
            config, everything, order.split.path, self.places, place, has_deviation=is_asked, rows=rows
        )
        predicted = outcome(child, self.display, self.signals, shows_values=False)
        assert isinstance(predicted, PredictionsWritten)
        return _Trained(candidate=candidate, weights=weights, predictions=predicted.path, device=device)

    def _measure(self, trained: Sequence[_Trained]) -> Confirmation:
        """Read the test set, write what comes of it to the ledger, and only then let anybody have it."""
        from datasets.splits.held_out import read_test_set
        from search.experiments.confirm.over_seeds import over_seeds
        from search.training.predict_split import read_test_predictions

        order, seeds, announce = self.order, self.seeds, self.display.announce
        task, data_hash = order.experiment.task(self.request.data), order.split.data_hash
        found = [read_test_predictions(one.predictions) for one in trained]
        predictions, own = [one.prediction for one in found], found[0].deviation
        over = over_seeds(order.experiment.ensemble, predictions, task, len(seeds))
        fresh = recalibrated(order.experiment, order.split, order.held_back, found, len(seeds), over)
        try:
            for one, rows in zip(trained, predictions, strict=True):
                for number, row in enumerate(rows):
                    name = f"{one.candidate.name}, seed {seeds[number % len(seeds)]}"
                    check_predictions(row)
            held_out = read_test_set(task, data_dir=self.request.data_dir, data_hash=data_hash, announce=announce)
            name, candidates = "the test set", [one.candidate for one in trained]
            covering = predictions[0][: len(seeds)], None if own is None else own[: len(seeds)]
            if over is not None:
                predictions, covering = over.together()
                candidates = [replace(candidates[0], value=over.ensemble.origins.value)]
            measured = tuple(
                Measured.of(candidate, rows, held_out.target, n_seeds=len(seeds), device=one.device)
                for candidate, one, rows in zip(candidates, trained, predictions, strict=False)
            )
        except UnusablePredictions as error:
            self._fail(f"{name}: {error}")
        confirmation = Confirmation(
            path=order.path,
            checksum=order.checksum,
            experiment=order.experiment,
            official=held_out.official,
            label=held_out.label,
            n_test=len(held_out.target),
            seeds=tuple(seeds),
            when=today(),
            measured=measured,
            coverage=coverage_of(order.experiment, fresh, order.split, *covering, held_out.target),
            calibration=fresh,
            scales=over.scales("train_and_validation") if over else (),
            folds=folds_of(task, order.split),
        )
        append(ledger_file(order.path), confirmation.readings())
        return confirmation

    def note(self, confirmation: Confirmation) -> "Count":
        """Note the readings where the study is, too, and count those of the test set, wherever they are known.

        Those of an earlier call, which was killed before it came to this or found no database, are noted with them.
        """
        from search.experiments.readings import find_readings, note_readings
        from search.request.inputs import open_existing

        folder, study = self.order.path.parent, self.order.experiment.provenance.study
        try:
            database = open_existing(self.request.storage, self.request.runs_dir)
            note_readings(database, self.order.experiment, read(ledger_file(self.order.path)))
            found = find_readings(folder, database)
        except UserError as error:
            why = f"This reading stands in the ledger alone, without the database of study {study!r}: {error}"
            found = find_readings(folder, None, missing=[why])
        return found.count(confirmation.question)

    def _fail(self, what: str) -> NoReturn:
        print(f"error: {self.order.path} cannot be confirmed: {what}.", file=sys.stderr)
        raise Stopped(1)
