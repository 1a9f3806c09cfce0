"""One study from what is asked to its experiment. Read this first: it is the story of a search.

`run_study` reads the data, finds out which study is wanted, checks that its runs can be built, lets workers run trials
until the budget is reached, and exports the best trial. It prints nothing but progress; the command line words what it
returns, and a notebook uses it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from search.machine import own_models
from search.machine.standard_streams import announcer
from search.outcome import EndReason, StudyOutcome, import_for_the_end, why_ended
from search.reporting.proposals import Proposals
from search.request.before_trials import (
    check_reached_runs,
    measured_trials_per_gpu,
    most_trials_per_gpu,
    open_for_search,
)
from search.request.inputs import check_export, check_folders, check_study_name, load_split, places_of, slots_of, url_of
from search.request.search_request import SearchRequest
from search.request.user_data import UserData, config_of, user_data
from search.request.wanted import open_wanted, wanted_study
from search.study.beside import takes_scores
from search.study.config import StudyConfig
from search.study.protocol import find_protocol
from search.study.recorded import noted_threads
from search.workers.inline import starter

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from datasets.splits.prepared import PreparedSplit
    from search.request.engine import Engine
    from search.storage.database import Database
    from search.study.artifacts import Artifacts
    from search.workers.crew import Crew
    from search.workers.display import Display
    from search.workers.signals import Signals
    from search.workers.worker import Worker


def run_study(
    request: SearchRequest,
    *,
    tell: "Callable[[StudyOutcome], None] | None" = None,
    data: UserData | None = None,
    engine: "Engine | None" = None,
) -> StudyOutcome:
    """Search until the study has its trials, and export the best one.

    Ctrl-C lets the running trial end; a second one stops it, and the same request goes on later.

    Args:
        request: What is searched.
        tell: Told the outcome before the call ends, while Ctrl-C and outages of the database are still handled.
        data: What `user_data` says of the request, where its files were read already.
        engine: Where its workers run, such as `search.cluster.ray_engine.RayEngine`; None is this machine.

    Raises:
        datasets.common.errors.UserError: The request, its data or its study is not what a search accepts.
    """
    started = time.monotonic()
    own_models.use_folder(request.models_dir)  # another request may have named another since this one was made
    if request.executor == "process":
        from search.workers.child import prepare_children

        prepare_children()  # first of all: torch and Lightning load in the background for longer than all else takes
    announce = announcer(request.quiet)
    if request.named is not None:
        check_study_name(request.named, request.storage, request.runs_dir)
    data = data or user_data(request, request.task, request.runs_dir, announce, request.words)
    config, task = config_of(request.words, data), data.task
    if task.embeddings is not None and config.defaults["embeddings"] is None:
        announce(f"The model {request.model} takes no embeddings: it is searched without them.")
        task = replace(task, embeddings=None)
    if "scores.use" in config.space.leaves and not takes_scores(str(config.defaults["model"]["_target_"])):
        announce(
            f"The model {request.model} takes no score columns, so that it is the same whatever scores.use says: with "
            "scores.use=none no trial is spent on it."
        )
    slots = partial(slots_of, request.workers, n_trials=request.n_trials, config=config)
    per_gpu = most_trials_per_gpu(request, config)
    # At most: too many are refused here.
    n_workers = len(slots(per_gpu, threads=1)) if engine is None else request.workers or 2
    check_folders(request.runs_dir, request.export_dir, request.named)
    split = load_split(task, request.data_dir, request.runs_dir, announce, weights_dir=request.weights_dir)
    find_protocol(config.defaults["validation"], task, split)  # what a split cannot carry is refused before all else

    from search.study.artifact_store import shared_files
    from search.study.artifacts import Artifacts
    from search.workers.display import make_display
    from search.workers.local_worker import LocalCrew
    from search.workers.signals import Signals

    display = make_display(request.n_trials, is_quiet=request.quiet)
    deadline = None if request.timeout is None else started + request.timeout
    signals = Signals(display.announce, deadline=deadline, n_workers=n_workers)
    with ExitStack() as stack:
        stack.enter_context(signals.installed())  # to the very end: the export is not to be interrupted either
        crew_with = None if engine is None else stack.enter_context(engine.opened(request, config, split, display))
        database = open_for_search(request, config, display, signals)
        wanted = wanted_study(request, config, task, split, database)
        check_study_name(wanted.name, request.storage, request.runs_dir)
        export = request.export_dir / f"{wanted.name}.yaml"
        check_export(export, wanted.name)
        files = shared_files(request.artifacts)  # asked before there is a study
        import_for_the_end([wanted.config])  # while the children import torch
        checked = check_reached_runs(request, wanted, split, database, display, signals)
        if checked is None and signals.exit_status:
            return StudyOutcome(split=split, ended=EndReason.INTERRUPTED, exit_status=signals.exit_status)
        if checked is None and signals.is_timed_out and wanted.name not in database.storage.study_names():
            # What a check finds is recorded when a study is made, and never after.
            announce(f"The --timeout was over before study {wanted.name} began; the same command begins it.")
            return StudyOutcome(split=split, ended=EndReason.TIMED_OUT)
        study, config = open_wanted(request, wanted, database, checked, announce)
        threads = noted_threads(study)
        if crew_with is None and checked is not None and request.trials_per_gpu is None:
            per_gpu = measured_trials_per_gpu(request, config, split, per_gpu, threads, display, signals)
        crew = LocalCrew(slots(per_gpu, threads=threads)) if crew_with is None else crew_with(threads)
        request.hours.warn([slot.gpu_share for slot in crew.slots()], announce)
        with database.guarded(wanted.name, exit_status=lambda: signals.exit_status):
            work = _Work(
                request=request,
                config=config,
                split=split,
                database=database,
                study=study,
                artifacts=Artifacts(
                    directory=request.runs_dir / wanted.name,
                    keep_top=request.keep_top,
                    announce=display.announce,
                    shared=files,
                ),
                crew=crew,
                display=display,
                signals=signals,
            )
            before = study.get_trials(deepcopy=False)
            failure = work.run(before)
            signals.trials_are_over = True
            outcome = work.finish(export, before, failure)
            if tell is not None:
                tell(outcome)
            work.show(outcome)
            return replace(outcome, exit_status=signals.exit_status)  # of one that came meanwhile, too


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The trials of one call, and what is made of them."""

    request: SearchRequest
    config: StudyConfig
    split: "PreparedSplit"
    database: "Database"
    study: "Study"
    artifacts: "Artifacts"
    crew: "Crew"
    display: "Display"
    signals: "Signals"

    def run(self, trials: "Sequence[FrozenTrial]") -> str | None:
        """Let workers run more than these trials, until the budget is reached; what stopped them before it, or None."""
        from optuna.trial import TrialState

        from search.study.study import count
        from search.workers.fleet import FleetFailed
        from search.workers.worker import TooManyFailures, Worker

        request = self.request
        n_before = count(trials).n_finished
        if n_before >= request.n_trials:
            announcer(request.quiet)(
                f"Study {self.study.study_name} has {n_before} finished trials of the {request.n_trials} asked for: "
                "nothing to do."
            )
        make_worker = partial(
            Worker,
            config=self.config,
            split=self.split.path,
            places=places_of(request.weights_dir, request.runs_dir),
            directory=self._folder,
            n_target=request.n_trials,
            max_failures=request.max_failures,
            max_retries=request.max_retries,
            known_failures=frozenset(trial.number for trial in trials if trial.state == TrialState.FAIL),
            trial_timeout_s=request.trial_timeout,
            hours=request.hours,
            start=starter(request.executor),
        )
        with self.display:
            try:
                if self.crew.is_this_process:
                    make_worker(
                        study=self.study,
                        database=self.database,
                        signals=self.signals,
                        display=self.display,
                        artifacts=self.artifacts,
                        slot=self.crew.slots()[0],
                    ).work()
                elif n_before < request.n_trials:
                    self._run_in_processes(make_worker)
            except TooManyFailures as error:
                return f"{request.max_failures} trials failed in a row, the last with:\n{error}"
            except FleetFailed as error:
                return str(error)
        return None

    def _run_in_processes(self, make_worker: "Callable[..., Worker]") -> None:
        """A process for each slot."""
        from search.workers.fleet import Fleet
        from search.workers.fleet_worker import Assignment

        self._folder.mkdir(parents=True, exist_ok=True)
        assignment = Assignment(
            url=url_of(self.request.storage, self.request.runs_dir),
            runs=self.request.runs_dir,
            study=self.study.study_name,
            keep_top=self.request.keep_top,
            make_worker=make_worker,
            lease=self.request.lease,
            artifacts=self.request.artifacts,
        )
        Fleet(
            study=self.study, crew=self.crew, assignment=assignment, signals=self.signals, display=self.display
        ).work()

    def finish(self, place: Path, before: "Sequence[FrozenTrial]", failure: str | None) -> StudyOutcome:
        """Export the best trial to its place, and remove the files of others; what the search came to."""
        from search.reporting.summary import export_best
        from search.study.assessment import assess, compared_trials
        from search.study.snapshot import snapshot
        from search.study.study import best_trial, count

        announce, runs = self.display.announce, self.request.runs_dir
        trials = self.study.get_trials(deepcopy=False)  # once: all that is said of the study is of the same ones
        best, exported = best_trial(trials), None
        if best is not None:
            places = places_of(self.request.weights_dir, runs)
            self.artifacts.fetch(best)
            exported = export_best(
                self.study, best, self.config, self.split, place, runs=runs, announce=announce, places=places
            )
            if not self.signals.is_hurried:
                self.artifacts.fetch_predictions(compared_trials(trials))
        self.artifacts.remove_others(trials)
        ended = snapshot(self.study, trials)
        return StudyOutcome(
            study=ended,
            split=self.split,
            n_before=count(before).n_finished,
            n_finished=count(trials).n_finished,
            best=best,
            experiment=exported,
            assessment=assess(ended, self._folder),
            ended=why_ended(ended, self.request, self.signals, failure),
            failure=failure,
            exit_status=self.signals.exit_status,
        )

    def show(self, outcome: StudyOutcome) -> None:
        """Write the study's note and report, once all is told: whatever becomes of them, the search is what it was."""
        from search.reporting.dashboard_note import show_state

        if outcome.study is None or self.signals.is_hurried:  # nobody waits for a report
            return
        show_state(
            outcome.study,
            self.database,
            self.request.runs_dir,
            export=outcome.experiment,
            proposals=Proposals.of(self.request),
            announce=announcer(self.request.quiet),
            assessment=outcome.assessment,
            until_hurried=self.signals.until_hurried,
        )

    @property
    def _folder(self) -> Path:
        return self.request.runs_dir / self.study.study_name
