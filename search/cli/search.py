"""The search command: one study from its data to its exported experiment, in words."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.machine.standard_streams import announcer
from search.options.folders import described
from search.outcome import EndReason, StudyOutcome
from search.reporting.proposals import Proposals
from search.request.engine import Engine
from search.request.inputs import check_study_name, load_split, open_existing, places_of
from search.request.search_request import DataOptions, SearchRequest
from search.request.user_data import UserData, config_of, user_data
from search.request.user_table import refuse_two_splits, survey_of
from search.request.wanted import wanted_study
from search.session import run_study
from search.study.names import default_name, test_fold_name
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED


def request_of(arguments: argparse.Namespace, **given: Any) -> SearchRequest:
    """What the command line asks for; `given` are fields to be taken instead."""
    task = None if arguments.data is not None else arguments.task
    return SearchRequest.of(arguments, task=task, overrides=tuple(arguments.overrides[2:]), **given)


def run_search(arguments: argparse.Namespace) -> int:
    """Search, or show what a search would do; returns the exit status."""
    request = request_of(arguments)
    if arguments.dry_run:
        return show_plan(arguments, request, None)
    return search(request, engine=engine_of(arguments))


def engine_of(arguments: argparse.Namespace) -> Engine | None:
    """Where the workers run; None is this machine."""
    if arguments.engine is None:
        return None
    from search.cluster.ray_engine import RayEngine

    return RayEngine(arguments.address)


def search_each_fold(arguments: argparse.Namespace, search_one: Callable[[argparse.Namespace], int]) -> int:
    """Search one study, or one for each family, for each fold of a table that is test, and print a table of them.

    Each is the one that `--test-fold K` alone would make or resume. `--timeout` is for the whole call. The exit status
    is the highest of the searches'.

    Args:
        arguments: Those of the command line, with `--test-fold all`.
        search_one: The search for one fold.

    Raises:
        UserError: The table is not what a search accepts, or a search of a fold is refused.
    """
    from datasets.tables.parts import in_order

    started, announce = time.monotonic(), announcer(arguments.quiet)
    found = survey_of(arguments.data, DataOptions.of(arguments, test_fold=None))
    found.findings.raise_refused()
    assert found.landscape.fold is not None, "--test-fold needs a --fold-column"
    folds = in_order(found.landscape.fold)
    refuse_two_splits(replace(found, table=replace(found.table, test_fold=folds[0])))
    ended: list[int] = []
    studies: list[tuple[str, str, str]] = []
    for fold in folds:
        own = argparse.Namespace(**{**vars(arguments), "test_fold": fold})
        if arguments.study_name is not None:
            own.study_name = f"{arguments.study_name}-{test_fold_name(fold)}"
        for model in arguments.models or (arguments.model,):
            table = {**found.table.settings, "test_fold": fold}
            name = default_name(arguments.task, model, table, arguments.data.name)
            if arguments.study_name is not None:
                name = f"{own.study_name}-{model}" if arguments.models else own.study_name
            studies.append((fold, model, name))
        if arguments.timeout is not None:
            own.timeout = arguments.timeout - (time.monotonic() - started)
            if own.timeout <= 0:
                announce(f"The --timeout was over before fold {fold}; the same command goes on.")
                continue
        announce(f"{chr(10) * bool(ended)}Fold {fold} of {arguments.fold_column} is test")
        ended.append(search_one(own))
        if ended[-1] in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            return ended[-1]  # whoever stops it does not wait for a table
    if not ended:
        return 1
    if not (arguments.quiet or arguments.dry_run):
        from search.reporting.fold_table import print_folds

        database = open_existing(arguments.storage, arguments.runs_dir)
        print_folds(database, studies, export_dir=arguments.export_dir, proposals=Proposals.of(arguments))
    return max(ended)


def search(request: SearchRequest, data: UserData | None = None, engine: Engine | None = None) -> int:
    """Search until the budget is reached, say what was found, and return the exit status.

    `data` is what `user_data` says of the request, where its files were read already; `engine` is where workers run.
    """
    outcome = run_study(request, tell=lambda outcome: _tell(request, outcome), data=data, engine=engine)
    if outcome.study is None or outcome.ended == EndReason.INTERRUPTED:
        return outcome.exit_status
    if outcome.ended == EndReason.FAILED:
        return 1
    return 0 if outcome.best is not None or outcome.ended == EndReason.DRAINED else 1


def show_plan(arguments: argparse.Namespace, request: SearchRequest, data: UserData | None) -> int:
    """Print what the search would do."""
    announce = announcer(request.quiet)
    if request.named is not None:
        check_study_name(request.named, request.storage, request.runs_dir)
    data = data or user_data(request, request.task, request.runs_dir, announce, request.words)
    config = config_of(request.words, data)
    from search.cli.dry_run import show  # heavy: a mistake in the configuration does not wait for it
    from search.request.inputs import existing

    split = load_split(data.task, request.data_dir, request.runs_dir, announce, weights_dir=request.weights_dir)
    wanted = wanted_study(request, config, data.task, split, existing(request.storage, request.runs_dir))
    print(described(arguments))
    return show(wanted.config, wanted.name, split, wanted.protocol, places_of(request.weights_dir, request.runs_dir))


def _tell(request: SearchRequest, outcome: StudyOutcome) -> None:
    """Say what was found, and why the search ended if it was not for its budget."""
    from search.reporting.summary import print_outcome
    from search.storage.attributes import EXHAUSTED

    assert outcome.study is not None
    name, n_trials = outcome.study.study_name, request.n_trials
    if not request.quiet:
        export = outcome.experiment or request.export_dir / f"{name}.yaml"
        print_outcome(
            outcome.study, outcome.best, outcome.split, export, _next_command(request, export), outcome.assessment
        )
    if outcome.failure is not None:
        print(f"error: {outcome.failure}", file=sys.stderr)
        return
    stopped = {
        EndReason.INTERRUPTED: f"Stopped at {outcome.n_finished} of {n_trials} trials",
        EndReason.DRAINED: f"Drained at {outcome.n_finished} of {n_trials} trials",
        EndReason.TIMED_OUT: f"The --timeout is over at {outcome.n_finished} of {n_trials} trials",
    }
    if request.quiet:
        return
    if outcome.study.user_attrs.get(EXHAUSTED):
        print("The space is used up: every point of it was tried.", file=sys.stderr)
    if outcome.ended in stopped:
        print(f"{stopped[outcome.ended]}; the same command goes on.", file=sys.stderr)


def _next_command(request: SearchRequest, export: Path) -> str:
    """What to do with the export: who brought a table wants candidates ranked."""
    propose = Proposals.of(request).command
    if request.data is not None:
        return propose("predict", export, "--input", "candidates.fasta", "--top", "100", "--output", "ranked.csv")
    return propose("verify", export)
