"""The search command: one study from its data to its exported experiment."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from search.config import StudyConfig, study_config
from search.folders import described
from search.inputs import (
    announcer,
    check_export,
    check_study_name,
    check_writable,
    load_split,
    places_of,
    slots_of,
    url_of,
)
from search.proposals import Proposals
from search.protocol import find_protocol
from search.run_names import CACHE
from search.slots import Slot
from search.user_data import user_task
from search.wanted_study import open_wanted, wanted_study

if TYPE_CHECKING:
    from optuna import Study

    from datasets.prepared import PreparedSplit
    from datasets.table import Table
    from datasets.task import Task
    from search.honesty import Assessment
    from search.progress import Display
    from search.signals import Signals
    from search.storage import Database
    from search.worker import Worker


def run_search(arguments: argparse.Namespace, own: "tuple[Task, Table] | None" = None) -> int:
    """Search until the budget is reached, export the best trial, say what was found.

    `own` is what `user_task` says of the arguments, where it has been asked already.
    """
    if arguments.models:
        from search.ladder import run_ladder

        return run_ladder(arguments)
    started = time.monotonic()
    announce = announcer(arguments.quiet)
    # That of a table's study is known once the table was read and the database asked.
    named = arguments.study_name or (None if arguments.data is not None else f"{arguments.task}-{arguments.model}")
    if named is not None:
        check_study_name(arguments, named)
    own = own or user_task(arguments, announce)
    config = study_config(arguments.overrides, table=own and own[1])
    task = own[0] if own else config.find_task()
    slots = slots_of(arguments, config)
    runs: Path = arguments.runs_dir
    if arguments.dry_run:
        from search.dry_run import show
        from search.operate import existing

        split = load_split(task, arguments.data_dir, runs, announce)
        wanted = wanted_study(arguments, config, task, split, existing(arguments))
        print(described(arguments))
        return show(wanted.config, wanted.name, split, wanted.protocol, places_of(arguments))
    for folder in (runs, runs / CACHE / "checks", arguments.export_dir):
        check_writable(folder)
    if named is not None:
        check_export(Path(arguments.export_dir) / f"{named}.yaml", named)

    from search.isolation import prepare_children

    prepare_children()  # torch and Lightning load in the background while we read data and open the database
    split = load_split(task, arguments.data_dir, runs, announce)
    find_protocol(config.defaults["validation"], task, split)  # what a split cannot carry is refused before all else

    from search.checking import check_runs
    from search.progress import make_display
    from search.signals import Signals
    from search.study import needs_trials

    display = make_display(arguments.n_trials, is_quiet=arguments.quiet)
    deadline = None if arguments.timeout is None else started + arguments.timeout
    signals = Signals(display.announce, deadline=deadline, n_workers=len(slots))
    with signals.installed():  # to the very end: the export is not to be interrupted either
        database = _open_database(arguments, config, display, signals)
        wanted = wanted_study(arguments, config, task, split, database)
        name, config = wanted.name, wanted.config
        check_study_name(arguments, name)
        export = Path(arguments.export_dir) / f"{name}.yaml"
        check_export(export, name)
        checked = None
        if needs_trials(database, name, arguments.n_trials):
            _import_for_the_end()  # while the children import torch
            reached = [config.run(params) for params in (*config.first_trials, *config.space.corners(config.defaults))]
            checked = check_runs(reached, split.path, places_of(arguments), display, signals)
            if checked is None and signals.exit_status:
                return signals.exit_status
        study = open_wanted(arguments, wanted, database, checked)
        with database.guarded(name, exit_status=lambda: signals.exit_status):
            return _search(arguments, config, split, database, study, slots, export, display, signals)


def _import_for_the_end() -> None:
    """Import what is needed once the trials are over: whoever updates the checkout meanwhile changes nothing here."""
    import search.report
    import search.shown_state  # noqa: F401
    from search.machine import git_commit

    git_commit()  # is remembered: the trials run with the code of now


def _open_database(
    arguments: argparse.Namespace, config: StudyConfig, display: "Display", signals: "Signals"
) -> "Database":
    from search.clocks import check_clock
    from search.storage import open_database
    from search.worker import check_search

    check_search(config)
    database = open_database(
        url_of(arguments),
        create=True,
        announce=display.announce,
        is_interrupted=lambda: signals.is_interrupted,
    )
    check_clock(database)
    return database


def _search(
    arguments: argparse.Namespace,
    config: StudyConfig,
    split: "PreparedSplit",
    database: "Database",
    study: "Study",
    slots: Sequence[Slot],
    export: Path,
    display: "Display",
    signals: "Signals",
) -> int:
    from optuna.trial import TrialState

    from search.artifacts import Artifacts
    from search.attributes import EXHAUSTED
    from search.control import read_control
    from search.fleet import FleetFailed
    from search.honesty import assess
    from search.outcome import export_best, print_outcome
    from search.snapshot import snapshot
    from search.study import best_trial, count
    from search.worker import TooManyFailures, Worker

    trials = study.get_trials(deepcopy=False)
    n_before = count(trials).n_finished
    if n_before >= arguments.n_trials and not arguments.quiet:
        print(
            f"Study {study.study_name} has {n_before} finished trials of the {arguments.n_trials} asked for: "
            "nothing to do.",
            file=sys.stderr,
        )
    artifacts = Artifacts(
        directory=arguments.runs_dir / study.study_name, keep_top=arguments.keep_top, announce=display.announce
    )
    make_worker = partial(
        Worker,
        config=config,
        split=split.path,
        places=places_of(arguments),
        directory=arguments.runs_dir / study.study_name,
        n_target=arguments.n_trials,
        max_failures=arguments.max_failures,
        max_retries=arguments.max_retries,
        known_failures=frozenset(trial.number for trial in trials if trial.state == TrialState.FAIL),
        trial_timeout_s=arguments.trial_timeout,
    )
    failure: str | None = None
    with display:
        try:
            if len(slots) == 1:
                make_worker(
                    study=study,
                    database=database,
                    signals=signals,
                    display=display,
                    artifacts=artifacts,
                    slot=slots[0],
                ).work()
            elif n_before < arguments.n_trials:
                _work_in_processes(arguments, make_worker, study, slots, display, signals)
        except TooManyFailures as error:
            failure = f"{arguments.max_failures} trials failed in a row, the last with:\n{error}"
        except FleetFailed as error:
            failure = str(error)
    trials = study.get_trials(deepcopy=False)
    best = best_trial(trials)
    if best is not None:
        export = export_best(study, best, config, split, export, runs=arguments.runs_dir, announce=display.announce)
    artifacts.remove_others(trials)
    ended = snapshot(study, trials)
    assessment = assess(ended, arguments.runs_dir / study.study_name)
    if not (signals.exit_status and signals.is_interrupted):  # who is in a hurry does not wait for a report
        _show_state(arguments, ended, database, export if best is not None else None, assessment)
    if not arguments.quiet:
        print_outcome(ended, best, split, export, _next_command(arguments, export), assessment)
    if failure is not None:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    if study.user_attrs.get(EXHAUSTED) and not arguments.quiet:
        print("The space is used up: every point of it was tried.", file=sys.stderr)
    n_finished = count(trials).n_finished
    if signals.exit_status and n_finished < arguments.n_trials:
        if not arguments.quiet:
            print(f"Stopped at {n_finished} of {arguments.n_trials} trials; the same command goes on.", file=sys.stderr)
        return signals.exit_status
    if read_control(study) == "drain" and n_finished < arguments.n_trials:
        if not arguments.quiet:
            print(f"Drained at {n_finished} of {arguments.n_trials} trials; the same command goes on.", file=sys.stderr)
        return 0
    if signals.is_timed_out and n_finished < arguments.n_trials and not arguments.quiet:
        print(
            f"The --timeout is over at {n_finished} of {arguments.n_trials} trials; the same command goes on.",
            file=sys.stderr,
        )
    return 0 if best is not None else 1


def _work_in_processes(
    arguments: argparse.Namespace,
    make_worker: "Callable[..., Worker]",
    study: "Study",
    slots: Sequence[Slot],
    display: "Display",
    signals: "Signals",
) -> None:
    from search.fleet import Fleet
    from search.fleet_worker import Assignment

    directory: Path = arguments.runs_dir / study.study_name
    directory.mkdir(parents=True, exist_ok=True)
    Fleet(
        study=study,
        assignments=[
            Assignment(
                url=url_of(arguments),
                runs=arguments.runs_dir,
                study=study.study_name,
                keep_top=arguments.keep_top,
                make_worker=make_worker,
                slot=slot,
                log=directory / f"worker-{i}.txt",
            )
            for i, slot in enumerate(slots)
        ],
        signals=signals,
        display=display,
    ).work()


def _show_state(
    arguments: argparse.Namespace,
    study: "Study",
    database: "Database",
    export: Path | None,
    assessment: "Assessment | None",
) -> None:
    from search.shown_state import show_state

    announce = announcer(arguments.quiet)
    proposals = Proposals.of(arguments)
    show_state(
        study,
        database,
        arguments.runs_dir,
        export=export,
        proposals=proposals,
        announce=announce,
        assessment=assessment,
    )


def _next_command(arguments: argparse.Namespace, export: Path) -> str:
    """What to do with the export: who brought a table wants candidates ranked."""
    propose = Proposals.of(arguments).command
    if arguments.data is not None:
        return propose("predict", export, "--input", "candidates.fasta", "--top", "100", "--output", "ranked.csv")
    return propose("verify", export)
