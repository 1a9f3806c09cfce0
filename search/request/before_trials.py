"""What a search does before its trials: it asks sampler and pruner, opens the database, builds runs, tries GPUs."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search.machine.hardware import usable_cores
from search.request.inputs import gpus_of, places_of, url_of
from search.request.precision import check_open
from search.request.search_request import SearchRequest
from search.request.wanted import WantedStudy
from search.space.corners import find_values
from search.study.config import StudyConfig
from search.study.run_names import CACHE
from search.workers.inline import starter

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.config.run_config import RunConfig
    from search.storage.database import Database
    from search.workers.display import Display
    from search.workers.messages import Checked
    from search.workers.signals import Signals


_NO_PAIRS = {"trainer.loss": "ranking", "data.batch_size": 1}
"""They cannot be trained together, and corners of the space hold each, but not always both."""


def open_for_search(request: SearchRequest, config: StudyConfig, display: "Display", signals: "Signals") -> "Database":
    """The database, once sampler and pruner have said that they can search; it is made if it has to be."""
    from search.storage.clocks import check_clock
    from search.storage.database import open_database
    from search.workers.worker import check_search

    check_search(config)
    database = open_database(
        url_of(request.storage, request.runs_dir),
        create=True,
        announce=display.announce,
        is_interrupted=lambda: signals.is_interrupted,
        lease=request.lease,
    )
    check_clock(database)
    return database


def check_reached_runs(
    request: SearchRequest,
    wanted: WantedStudy,
    split: "PreparedSplit",
    database: "Database",
    display: "Display",
    signals: "Signals",
) -> "Checked | None":
    """Build the model and the data of every kind of run that the space reaches, before anything trains.

    None where no trial is left to be run, or a signal came.
    """
    from search.study.study import needs_trials
    from search.workers.run_alone import check_runs

    if not needs_trials(database, wanted.name, request.n_trials):
        return None
    config = wanted.config
    reached = _reached_runs(config)
    without_pairs = find_values(_NO_PAIRS, config.space.leaves, config.defaults)
    if without_pairs is not None:
        reached.append(config.run(without_pairs))  # which is refused
    check_open(config, reached)
    places = places_of(request.weights_dir, request.runs_dir)
    n_first = len(config.first_trials)
    return check_runs(reached, split.path, places, display, signals, n_first=n_first, start=starter(request.executor))


def most_trials_per_gpu(request: SearchRequest, config: StudyConfig) -> int:
    """The slots of a GPU as far as the request says: those that it names, those of its workers, or the most that a
    measurement may find, which is left out where there is no GPU or nothing to divide.
    """
    if request.trials_per_gpu is not None:
        return request.trials_per_gpu
    from search.workers.gpu_room import MOST

    n_gpus = len(gpus_of(request.workers, config))
    if n_gpus == 0:
        return 1
    if request.workers is not None:
        return -(-request.workers // n_gpus)
    return max(1, min(MOST, usable_cores() // n_gpus, -(-request.n_trials // n_gpus)))


def measured_trials_per_gpu(
    request: SearchRequest,
    config: StudyConfig,
    split: "PreparedSplit",
    most: int,
    threads: int | None,
    display: "Display",
    signals: "Signals",
) -> int:
    """How many trials of this study a GPU trains at once, at most `most`; the first GPU stands for all.

    `threads` are the study's. Nothing is measured where the number of workers is given, where one is the most, and
    where the space's largest runs leave no room for a second one.
    """
    if request.workers is not None or most == 1:
        return most
    from search.workers.gpu_room import Window, carried, epochs_by_number, memory_allows, shown
    from search.workers.jobs import isolated_run, isolated_shares

    def is_over() -> bool:
        return signals.is_draining

    display.announce("How many trials a GPU trains at once is measured, which takes up to a minute or two.")
    places = places_of(request.weights_dir, request.runs_dir)
    run = config.run(next(iter(config.first_trials), {}))
    endless = replace(run.trainer, threads=run.trainer.threads or threads or 1, max_epochs=10**6, patience=10**6)
    with tempfile.TemporaryDirectory(dir=request.runs_dir / CACHE / "checks", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        shares = isolated_shares(_reached_runs(config), split.path, folder / "shares", most=most)
        n_fitting = memory_allows(shares, is_over)
        if n_fitting == 1:
            if not is_over():
                display.announce("--trials-per-gpu auto is 1: beside the largest runs there is no memory for a second.")
            return 1
        endless_run = replace(run, trainer=endless)
        rates = epochs_by_number(
            lambda number: isolated_run(endless_run, split.path, places, folder / str(number)),
            n_fitting,
            is_over,
            Window(),
        )
    if not is_over():
        display.announce(shown(rates))
    return carried(rates)


def _reached_runs(config: StudyConfig) -> "list[RunConfig]":
    """The first trials, and the corners of the space."""
    return [config.run(params) for params in (*config.first_trials, *config.space.corners(config.defaults))]
