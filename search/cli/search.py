"""The search command: one study from its data to its exported experiment, in words."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.machine.standard_streams import announcer
from search.options.folders import described
from search.outcome import EndReason, StudyOutcome
from search.reporting.proposals import Proposals
from search.request.engine import Engine
from search.request.inputs import check_study_name, existing, load_split, open_existing, places_of
from search.request.search_request import DataOptions, SearchRequest
from search.request.user_data import UserData, config_of, user_data
from search.request.user_table import refuse_two_splits, survey_of
from search.request.wanted import wanted_study
from search.session import run_study
from search.study.names import find_name, test_fold_name
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED


def request_of(arguments: argparse.Namespace, **given: Any) -> SearchRequest:
    """What the command line asks for; `given` are fields to be taken instead."""
    task = None if arguments.data is not None else arguments.task
    return SearchRequest.of(arguments, task=task, overrides=tuple(arguments.overrides[2:]), **given)


def run_search(arguments: argparse.Namespace, *, is_one_of_several: bool = False) -> int:
    """Search, or show what a search would do; returns the exit status, as `search` does."""
    request = request_of(arguments)
    if arguments.dry_run:
        return show_plan(arguments, request, None)
    return search(request, engine=engine_of(arguments), is_one_of_several=is_one_of_several)


def engine_of(arguments: argparse.Namespace) -> Engine | None:
    """Where the workers run; None is this machine."""
    if arguments.engine is None:
        return None
    from search.cluster.ray_engine import RayEngine

    return RayEngine(arguments.address, ship=arguments.ship)


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
    from search.reporting.fold_table import print_folds  # now: whoever updates the checkout changes nothing

    parts: list[tuple[argparse.Namespace, str, str]] = []
    studies: list[tuple[str, str, str]] = []
    database = existing(arguments.storage, arguments.runs_dir)
    for fold in folds:
        own = argparse.Namespace(**{**vars(arguments), "test_fold": fold})
        if arguments.study_name is not None:
            own.study_name = f"{arguments.study_name}-{test_fold_name(fold)}"
        for model in arguments.models or (arguments.model,):
            table = {**found.table.settings, "test_fold": fold}
            asked = {"task": arguments.task, "model": model, "table": table, "data": arguments.data.name}
            name = find_name(database, asked)
            if arguments.study_name is not None:
                name = f"{own.study_name}-{model}" if arguments.models else own.study_name
            studies.append((fold, model, name))
        parts.append((own, f"fold {fold}", f"Fold {fold} of {arguments.fold_column} is test"))
    status, is_whole = search_in_turn(parts, search_one, started=started, announce=announce)
    if is_whole and not (arguments.quiet or arguments.dry_run):
        now = open_existing(arguments.storage, arguments.runs_dir)
        print_folds(now, studies, export_dir=arguments.export_dir, proposals=Proposals.of(arguments))
    return status


def search_in_turn(
    parts: Sequence[tuple[argparse.Namespace, str, str]],
    search_one: Callable[[argparse.Namespace], int],
    *,
    started: float,
    announce: Callable[[str], None],
) -> tuple[int, bool]:
    """Search one part after the other within the `--timeout` of the call; the highest exit status, and whether a table
    of them is wanted: whoever stops a search does not wait for one, and of none there is nothing to show.

    Args:
        parts: The arguments of each search, what it is called in a sentence, and what is said before it.
        search_one: A search.
        started: When the call began, by `time.monotonic()`.
        announce: Told what begins, and what does not.
    """
    ended: list[int] = []
    for own, name, heading in parts:
        if own.timeout is not None:
            own.timeout -= time.monotonic() - started
            if own.timeout <= 0:
                announce(f"The --timeout was over before {name}; the same command goes on.")
                continue
        announce(f"{chr(10) * bool(ended)}{heading}")
        ended.append(search_one(own))
        if ended[-1] in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            return ended[-1], False
    return max(ended, default=1), bool(ended)


def search(
    request: SearchRequest,
    data: UserData | None = None,
    engine: Engine | None = None,
    *,
    is_one_of_several: bool = False,
) -> int:
    """Search until the budget is reached, say what was found, and return the exit status.

    `data` is what `user_data` says of the request, where its files were read already; `engine` is where workers run. A
    signal that came too late to stop this search is the status where it `is_one_of_several`: it stops the others.
    """
    outcome = run_study(request, tell=lambda outcome: _tell(request, outcome), data=data, engine=engine)
    if is_one_of_several and outcome.exit_status:
        return outcome.exit_status
    if outcome.study is None or outcome.ended == EndReason.INTERRUPTED:
        return outcome.exit_status or 1
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
    for sentence in wanted.left_out:
        announce(sentence)
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
            outcome.study,
            outcome.best,
            outcome.split,
            export,
            _next_commands(request, export, has_wild_type=_has_wild_type(outcome)),
            outcome.assessment,
        )
    if outcome.failure is not None:
        print(f"error: {outcome.failure}", file=sys.stderr)
        return
    stopped = {
        EndReason.INTERRUPTED: f"Stopped at {outcome.n_finished} of {n_trials} trials",
        EndReason.DRAINED: f"Drained at {outcome.n_finished} of {n_trials} trials",
        EndReason.TIMED_OUT: f"The --timeout is over at {outcome.n_finished} of {n_trials} trials",
        EndReason.HOURS: f"The hours of the study are used up at {outcome.n_finished} of {n_trials} trials",
    }
    if request.quiet:
        return
    if outcome.study.user_attrs.get(EXHAUSTED):
        print("The space is used up: every point of it was tried.", file=sys.stderr)
    if outcome.ended in stopped:
        how = "with more hours it goes on" if outcome.ended == EndReason.HOURS else "the same command goes on"
        print(f"{stopped[outcome.ended]}; {how}.", file=sys.stderr)


def _next_commands(request: SearchRequest, export: Path, *, has_wild_type: bool) -> list[str]:
    """What to do with the export: who brought a table wants candidates ranked, or the next plate."""
    propose = Proposals.of(request).command
    if request.data is None:
        return [propose("verify", export)]
    ranked = ("--input", "candidates.fasta", "--top", "100", "--output", "ranked.csv")
    candidates = ("--recombine",) if has_wild_type else ("--input", "candidates.fasta")
    plate = (*candidates, "--batch", "96", "--controls", "4", "--plate", "96", "--output", "plate.csv")
    return [propose("predict", export, *ranked), propose("suggest", export, *plate)]


def _has_wild_type(outcome: StudyOutcome) -> bool:
    """Whether the table's wild type is known, so that mutations can be combined."""
    from search.storage.attributes import MANIFEST

    about = {} if outcome.study is None else outcome.study.user_attrs.get(MANIFEST, {})
    return bool((about.get("table") or {}).get("wild_type"))
