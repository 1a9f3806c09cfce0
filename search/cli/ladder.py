"""Several models on one question, the cheap ones first: one ordinary study each, an ensemble, and a table at the end.

Each study is the one that the same command with that model alone would make or resume, and `--n-trials` is its budget:
every family gets as many trials. `--timeout` is for the whole call. Nothing is searched, and no table is printed, if
one of the studies exists and is about something else.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from datasets.common.errors import NotForTheseData, UserError
from search.cli.search import engine_of, request_of, search, show_plan
from search.machine.limits import limit_reached
from search.machine.standard_streams import announcer
from search.reporting.proposals import Proposals
from search.request.inputs import check_writable, load_split, url_of
from search.request.search_request import DataOptions, SearchRequest
from search.request.user_data import UserData, config_of, user_data
from search.request.wanted import wanted_study
from search.study.config import StudyConfig
from search.study.names import ensemble_name
from search.study.protocol import Protocol
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from datasets.task import Task
    from search.combination import Combination
    from search.storage.database import Database

_TIME_IS_OVER = "The --timeout was over before it was made; the same command makes it."


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One family of the ladder: the request, which names its study, its config, its validation, and if it is new."""

    request: SearchRequest
    study: str
    config: StudyConfig
    protocol: Protocol
    is_new: bool

    @property
    def model(self) -> str:
        """The family."""
        return self.request.model


@dataclass(frozen=True, kw_only=True)
class _Ensemble:
    """The ensemble that is wanted: of which studies, its name, and what was made, or why there is none.

    Both are None where the command line asks for none.
    """

    studies: Sequence[str]
    export: str
    made: "Combination | None" = None
    why: str | None = None


def run_ladder(arguments: argparse.Namespace) -> int:
    """Search each family, make the ensemble, and print the table; the exit status is the highest of the searches'.

    Raises:
        UserError: A setting is not valid, or a study of one family exists and has another configuration.
    """
    started = time.monotonic()
    announce = announcer(arguments.quiet)
    data = user_data(DataOptions.of(arguments), arguments.task, arguments.runs_dir, announce, arguments.overrides)
    # All of them before the first: a setting that one family does not know is told at once.
    configs = [_config(arguments, model, data) for model in arguments.models]
    if arguments.dry_run:
        return max(show_plan(arguments, request, data) for request, _ in configs)
    engine, task = engine_of(arguments), data.task
    check_writable(arguments.runs_dir)
    split = load_split(task, arguments.data_dir, arguments.runs_dir, announce, weights_dir=arguments.weights_dir)
    database = _open_database(configs)
    with database.lock:
        entrants = [_step(*one, task, split, database) for one in configs]
    _import_for_the_end(configs)
    new = [entrant.model for entrant in entrants if entrant.is_new]
    if 0 < len(new) < len(entrants):
        announce(f"Without a study so far: {', '.join(new)}; the others go on with theirs.")
    status, n_skipped, left_out = 0, 0, {}
    for entrant in entrants:
        announce(f"{'' if entrant is entrants[0] else chr(10)}{entrant.model}: study {entrant.study}")
        request = entrant.request
        if arguments.timeout is not None:
            left_s = arguments.timeout - (time.monotonic() - started)
            if left_s <= 0:
                left_out[entrant.model] = "the --timeout was over before its turn"
                continue
            request = replace(request, timeout=left_s)
        try:
            ended = search(request, data, engine, is_one_of_several=True)
        except NotForTheseData as error:
            left_out[entrant.model] = f"skipped: {error.brief}"
            print(f"{entrant.model} is skipped: {' '.join(str(error).split())}", file=sys.stderr)
            n_skipped += 1
            continue
        if ended in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            return ended  # whoever stops it does not wait for a table
        status = max(status, ended)
    from search.workers.run_alone import Stopped

    try:
        ensemble = _ensemble(arguments, entrants, database, started)
    except Stopped as stopped:
        return stopped.exit_status
    if not arguments.quiet:
        _print_table(arguments, entrants, left_out, ensemble, database, task, split)
    return NotForTheseData.exit_status if n_skipped == len(entrants) else status


def _import_for_the_end(configs: Sequence[tuple[SearchRequest, StudyConfig]]) -> None:
    """Import what is needed after the first search and the last: whoever updates the checkout changes nothing here."""
    import search.cli.experiments.combine
    import search.combination
    import search.experiments.ledger
    import search.reporting.ladder_table
    import search.reporting.rungs
    import search.study.question
    import search.training.build
    import search.training.predict_split
    import search.workers.display  # noqa: F401
    from search.outcome import import_for_the_end

    import_for_the_end([config for _, config in configs])


def _config(arguments: argparse.Namespace, model: str, data: UserData) -> tuple[SearchRequest, StudyConfig]:
    """The request of one family's search, and its config."""
    name = None if arguments.study_name is None else f"{arguments.study_name}-{model}"
    try:
        request = request_of(arguments, model=model, study_name=name)
        return request, config_of(request.words, data)
    except UserError as error:
        raise UserError(f"Of the models asked for, {model}: {error}") from None


def _open_database(configs: Sequence[tuple[SearchRequest, StudyConfig]]) -> "Database":
    from search.workers.child import prepare_children

    prepare_children()  # what follows loads torch: the children do so meanwhile

    from search.storage.database import open_database
    from search.workers.worker import check_search

    for _, config in configs:
        check_search(config)
    request, _ = configs[0]
    url, announce = url_of(request.storage, request.runs_dir), announcer(request.quiet)
    return open_database(url, create=True, announce=announce, is_interrupted=lambda: False)


def _step(
    request: SearchRequest, config: StudyConfig, task: "Task", split: "PreparedSplit", database: "Database"
) -> Entrant:
    """Name a family's study; refuse one that exists and is about something else. Under the database's lock."""
    from search.study.study import check_existing

    wanted = wanted_study(request, config, task, split, database)
    check_existing(database, wanted.name, wanted.about)
    request = replace(request, study_name=wanted.name)
    is_new = wanted.name not in database.storage.study_names()
    return Entrant(request=request, study=wanted.name, config=wanted.config, protocol=wanted.protocol, is_new=is_new)


def _ensemble(
    arguments: argparse.Namespace, entrants: Sequence[Entrant], database: "Database", started: float
) -> _Ensemble | None:
    """The ensemble of the families that have a complete trial; None where they are fewer than two.

    Raises:
        search.workers.run_alone.Stopped: A signal came.
    """
    announce, with_a_trial = announcer(arguments.quiet), _studies_with_a_trial(entrants, database)
    if len(with_a_trial) < 2:
        return None
    studies = [name for name, is_allowed in with_a_trial.items() if is_allowed]
    found = _Ensemble(studies=studies, export=ensemble_name(entrants[0].study, entrants[0].model))
    if arguments.no_ensemble:
        return found if len(studies) > 1 else None
    if len(studies) < 2:
        return replace(found, why="Fewer than two families have a trial that keeps to what its protocol asks for.")
    for name in (name for name, is_allowed in with_a_trial.items() if not is_allowed):
        announce(f"Study {name} takes no part in the ensemble: no trial of it keeps to what its protocol asks for.")
    deadline = None if arguments.timeout is None else started + arguments.timeout
    if deadline is not None and time.monotonic() >= deadline:
        return replace(found, why=_TIME_IS_OVER)
    announce(f"\nensemble: {found.export}, of {len(studies)} studies")
    try:
        return replace(found, made=_make(arguments, found, deadline))
    except UserError as error:
        return replace(found, why=" ".join(str(error).split()))


def _make(arguments: argparse.Namespace, wanted: _Ensemble, deadline: float | None) -> "Combination":
    """Make the ensemble.

    Raises:
        search.workers.run_alone.Stopped: A signal came.
        UserError: It cannot be made.
    """
    from search.cli.experiments.combine import make_ensemble
    from search.request.combine_request import CombineRequest
    from search.workers.run_alone import Stopped

    try:
        request = CombineRequest(
            studies=wanted.studies,
            export=wanted.export,
            storage=arguments.storage,
            artifacts=arguments.artifacts,
            data=arguments.data,
            runs_dir=arguments.runs_dir,
            export_dir=arguments.export_dir,
            data_dir=arguments.data_dir,
            weights_dir=arguments.weights_dir,
            quiet=arguments.quiet,
        )
        return make_ensemble(request, deadline=deadline)
    except Stopped as stopped:
        if stopped.exit_status in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            raise
        raise UserError("A member could not be trained again." if stopped.exit_status else _TIME_IS_OVER) from None
    except Exception as error:
        if isinstance(error, UserError) or (reached := limit_reached(error)) is None:
            raise
        raise reached from None  # a full disk takes nobody's table


def _studies_with_a_trial(entrants: Sequence[Entrant], database: "Database") -> dict[str, bool]:
    """Those that have a complete trial; whether one of them keeps to what its protocol asks for."""
    from search.study.ranking import rank_of
    from search.study.study import best_trial, find_study

    known, found = database.storage.study_names(), {}
    for entrant in entrants:
        if entrant.study not in known:
            continue
        best = best_trial(find_study(database, entrant.study).get_trials(deepcopy=False))
        if best is not None:
            found[entrant.study] = rank_of(best)[0] <= 0
    return found


def _print_table(
    arguments: argparse.Namespace,
    entrants: list[Entrant],
    left_out: Mapping[str, str],
    ensemble: _Ensemble | None,
    database: "Database",
    task: "Task",
    split: "PreparedSplit",
) -> None:
    from search.experiments.ledger import readings
    from search.reporting.ladder_table import show
    from search.reporting.rungs import Rung, baseline_rungs, ensemble_rung, study_rung
    from search.study.question import question
    from search.training.build import folds_of

    config = entrants[0].config
    run = config.run(config.first_trials[0] if config.first_trials else {})
    rungs = baseline_rungs(task, split, folds_of(run, split), crop=run.data.crop)
    announce = announcer(arguments.quiet)
    found = readings(arguments.export_dir, lambda sentence: announce(f"warning: {sentence}"))
    for entrant in entrants:
        try:
            where = {"runs": arguments.runs_dir, "export_dir": arguments.export_dir}
            rungs.append(study_rung(database, entrant.study, entrant.model, found, **where))
        except UserError as error:  # it has no study yet
            why = left_out.get(entrant.model, str(error))
            rungs.append(Rung(model=entrant.model, value=None, why=why))
    print("\n" + "\n".join(dict.fromkeys(entrant.protocol.sentence for entrant in entrants)))
    protocols = dict.fromkeys(entrant.protocol.shown for entrant in entrants)
    asked = question(task.name, split.label, split.data_hash, config.defaults["table"])
    proposals = Proposals.of(arguments)
    if ensemble is not None and (made := ensemble.made) is not None:
        own = ensemble_rung(database, made.ensemble, made.path, found, out_of_bag=made.out_of_bag, around=made.interval)
        rungs.append(own)
    show(asked.words, rungs, label=split.label, protocol="; ".join(protocols), proposals=proposals)
    if ensemble is not None and ensemble.made is None:
        command = proposals.command("combine", *ensemble.studies, "--export", ensemble.export)
        may = f"An average of several configurations may rank better: {command}"
        print(may if ensemble.why is None else f"There is no ensemble: {ensemble.why}", flush=True)
