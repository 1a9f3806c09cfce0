"""Models for the next plate: the config of an experiment, trained on all that was measured before it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import averaging_callbacks
from search.config.targets import is_exact, knows_deviation
from search.experiments.confirm.candidates import Candidate, of_parts
from search.experiments.confirm.kept_runs import refused_if_unwritable
from search.experiments.confirm.training import KEPT, EndedWithoutWeights, trained_run
from search.experiments.ensemble_predictor import EnsemblePredictor
from search.experiments.experiment import checksum, load_experiment
from search.experiments.files import confirmation_file
from search.experiments.requirements import check_data
from search.experiments.sealed import check_unchanged
from search.experiments.trained import TrainedExperiment
from search.experiments.weights_in_use import WeightFiles, exported_weights, find_weights
from search.machine.standard_streams import announcer
from search.request.inputs import load_split, places_of
from search.request.suggest_request import SuggestRequest
from search.workers.child import prepare_children
from search.workers.display import Display, PlainDisplay
from search.workers.signals import Signals

_FOLDER = "suggest"
"""Below the cache: what is in it can be removed, and is trained again."""


def device_for(path: Path, request: SuggestRequest) -> torch.device | None:
    """Where the models of an experiment are opened: those that are not to pick leave the GPU to what is trained."""
    return torch.device("cpu") if request.trains and not confirmation_file(path).is_file() else None


def of_confirm(trained: TrainedExperiment, request: SuggestRequest) -> TrainedExperiment:
    """The experiment with those models of `confirm`, if it left some, that would be trained here.

    Of a kernel that is the first seed's: its seeds are all but one model, and one can be conditioned on what is picked.
    Of what draws, and is not asked to train, those of the search.
    """
    if trained.made_by != "confirm" or (not request.trains and request.train is not None):  # what predicts picks
        return trained
    experiment, path, announce = load_experiment(trained.path), trained.path, announcer(request.quiet)
    if request.trains:
        found = find_weights(path, experiment, announce)
        if experiment.ensemble is not None or not knows_deviation(experiment.config.model):
            return trained
        weights: tuple[WeightFiles, ...] = (replace(found[0], files=found[0].files[:1]),)
        if weights == found:
            return trained
    else:
        weights = exported_weights(path, experiment)
    places = places_of(request.weights_dir, request.runs_dir)
    return TrainedExperiment(path, places=places, announce=announce, weights=weights)


def retrained(trained: TrainedExperiment, split: PreparedSplit, request: SuggestRequest) -> TrainedExperiment:
    """The experiment with models that saw all rows of training and validation; those of `confirm` stay (`of_confirm`).

    Each member of an ensemble is trained. A model that is solved exactly is trained once, any other as often as the
    search left models of it, each with a seed of its own: as `confirm` does, with the same seeds. The weights are kept
    in the cache of the runs folder, so that the next plate of the same experiment has them at once.

    Raises:
        Stopped: A signal came, or a run failed and its error was printed.
        UserError: A model ends without weights, or cannot be trained on this machine; or the experiment was exported
            anew meanwhile.
    """
    if trained.made_by == "confirm" or not request.trains:
        return trained
    announce = announcer(request.quiet)
    path = trained.path
    before = checksum(path)
    experiment = load_experiment(path)
    places = places_of(request.weights_dir, request.runs_dir)
    names = sorted({name for part in experiment.parts for name in averaging_callbacks(part.config)})
    if names:
        announce(
            f"{path} was trained with {', '.join(names)}, without which it cannot be trained again: the models of the "
            "search pick, each of which saw a part of the measured rows."
        )
        return TrainedExperiment(path, places=places, announce=announce)
    if experiment.embeddings != trained.config.embeddings:  # members other than the first see some
        task = experiment.task(request.data)
        split = load_split(task, request.data_dir, request.runs_dir, announce, weights_dir=request.weights_dir)
        check_data(path, experiment.config, experiment.provenance, split)
    first = 1 + max(part.config.seed for part in experiment.parts)  # as `confirm`
    found = []
    display: Display = Display() if request.quiet else PlainDisplay(1)
    signals = Signals(lambda sentence: None)
    with (
        _alone(places.cache_dir / _FOLDER, f"{path.stem}-{before[7:19]}", announce) as folder,
        signals.installed(),
    ):
        for number, (candidate, part) in enumerate(zip(of_parts(experiment), experiment.parts, strict=True)):
            n = 1 if is_exact(part.config.model) else len(part.provenance.weight_hashes)
            files, took = [], KEPT
            for seed in range(first, first + n):
                try:
                    kept, took = trained_run(
                        candidate.run(seed, "train_and_validation"),
                        folder / f"member{number}" / f"seed{seed}",
                        split=split,
                        backbone=part.provenance.backbone,
                        places=places,
                        display=display,
                        signals=signals,
                        prepare=prepare_children,
                    )
                except (EndedWithoutWeights, UserError) as why:
                    raise UserError(
                        f"{_named(path, candidate, len(experiment.parts))} cannot be trained on all that was measured "
                        f"({str(why).removesuffix('.')}): pick by the models of the search, with --no-train."
                    ) from None
                files.append(kept.weights)
            if took != KEPT:
                display.announce(
                    f"{_named(path, candidate, len(experiment.parts))} is trained on all {len(split.target):,} rows of "
                    f"training and validation ({candidate.how_long}{f', {n} seeds' * (n > 1)})."
                )
            found.append(WeightFiles(files=tuple(files), made_by="suggest"))
        check_unchanged(path, before)  # what was trained fits no other
        # Before anybody else may train there, who has another kind of machine or another version of the code.
        again = TrainedExperiment(path, places=places, announce=announce, weights=found)
        if isinstance(again.predictor, EnsemblePredictor):
            again.predictor = again.predictor.on_scale_of(split, [part.config for part in experiment.parts])
        return again


def _named(path: Path, candidate: Candidate, n_parts: int) -> str:
    return path.stem if n_parts == 1 else f"{path.stem}, {candidate.name},"


@contextmanager
def _alone(parent: Path, name: str, announce: Callable[[str], None]) -> Iterator[Path]:
    """The folder of one experiment, in which nobody else trains meanwhile; whoever comes later waits.

    Raises:
        UserError: It cannot be written.
    """
    folder = parent / name
    lock = FileLock(parent / f".{name}.lock")
    with refused_if_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            announce(f"Another process trains {name} on all that was measured: its models are waited for.")
            lock.acquire()
    try:
        yield folder
    finally:
        lock.release()
