"""One trial: parameters from the sampler, a run in a child process, its reports relayed to Optuna."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.config.nested import Scalar
from search.config.run_config import RunConfig
from search.config.type_checks import shown
from search.machine.environment import machine_kind, package_versions
from search.machine.limits import fault
from search.machine.standard_streams import printable
from search.space.conditions import path_of
from search.storage.attributes import ENDING, EXCESS_RISE, N_LOST, REASON, RESULT, SLOT, USES, WORKER
from search.storage.database import Database
from search.storage.ending import Ending
from search.storage.optuna_internals import constraint, id_of, known_of
from search.storage.resilient import set_attributes
from search.study.artifacts import Artifacts, attributes_of, hash_or_missing
from search.study.config import StudyConfig
from search.study.endings import TrialFailed, interrupted_folder, note
from search.study.protocol import build_validation
from search.study.pruning import judges_epochs, should_prune, step_of
from search.study.ranking import RISE
from search.training.predictions import VALIDATION
from search.training.result import Result, trial_folder
from search.workers.child import Child, Running, Start
from search.workers.display import Display
from search.workers.jobs import isolated_run
from search.workers.messages import Failure, Message, Value, Working
from search.workers.reports import TrialReports
from search.workers.reused import Reused, may_follow
from search.workers.signals import Orders
from search.workers.slots import THIS_PROCESS, Slot

_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class TrialRunner:
    """Runs trials of one study in this process.

    Args:
        config: What the study searches.
        database: Where it stands.
        split: Path of the prepared split.
        places: Where runs find weights and keep caches.
        directory: The study's folder; each trial gets one below it.
        signals: What people, or a supervisor, say, asked several times a second; a trial that is interrupted is left to
            be run again.
        display: Told of what happens.
        artifacts: Keeps what people find beside the trials.
        trial_timeout_s: How long a trial may take, the computation of frozen features left out, which is done once for
            all; None is for ever.
        slot: Where on this machine it trains.
        start: Starts a run: in a child process, or in this one.
    """

    config: StudyConfig
    database: Database
    split: Path
    places: Places
    directory: Path
    signals: Orders
    display: Display
    artifacts: Artifacts
    trial_timeout_s: float | None = None
    slot: Slot = THIS_PROCESS
    start: Start = Child

    def run_trial(self, trial: optuna.Trial, on_asked: Callable[[optuna.Trial], None]) -> float:
        """The objective: the run's value, `TrialPruned`, or `TrialFailed` with the ending written down.

        `on_asked` is called as soon as the trial stands as RUNNING in the database with a first heartbeat.
        """
        self.database.storage.hold(trial)
        # The last heartbeat of a trial with this attribute counts; one without is as old as its start.
        trial.storage.record_heartbeat(id_of(trial))  # type: ignore[attr-defined]
        cores, defaults = self._cores(trial), self.config.defaults
        n_folds = build_validation(defaults["validation"]).n_folds_in_all
        uses = self.slot.uses(defaults["trainer"]["threads"], cores=cores, n_folds=n_folds)
        here = {WORKER: f"{socket.gethostname()}:{os.getpid()}", SLOT: self.slot.name, USES: uses}
        set_attributes(trial, user=here, system={})
        on_asked(trial)
        try:
            run = self.config.run(self._parameters(trial))
            return self._drive(trial, self.slot.fit(run), cores)
        except UpdateFinishedTrialError:
            # Our lease expired and the trial was requeued; report nothing.
            raise TrialFailed("the trial's lease was lost") from None

    @cached_property
    def reused(self) -> Reused:
        """Starts the runs that may follow each other in one child."""
        return Reused()

    def _parameters(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """The values of the searched settings, by path.

        Raises:
            TrialFailed: Those that the trial was queued with, a row that anybody may have written, are none of them.
        """
        queued = known_of(trial).system_attrs.get("fixed_params", {})
        try:
            for name, leaf in self.config.space.leaves.items():
                if name in queued and not leaf.contains(queued[name]):  # Optuna takes any number
                    raise ValueError(f"{name} is {shown(queued[name])}, which is outside of space.{path_of(name)}")
            return self.config.space.suggest(trial, self.config.defaults)
        except ValueError as error:
            if not queued:
                raise
            reason = f"the parameters that it was queued with are not of the study's space: {printable(str(error))}"
            note(trial, Ending.BUG, reason)
            raise TrialFailed(reason) from None

    def _cores(self, trial: optuna.Trial) -> int:
        """How many the run may take: those of the slot, shared with other workers of the study on this machine.

        One, where its folds train one after another however many there are; and where it lost its process before,
        perhaps for the memory that several took at once.
        """
        takes_turns = self.config.is_exact or self.config.defaults["trainer"]["callbacks"] or self.start is not Child
        if takes_turns or self.slot.n_cores is None or trial.user_attrs.get(N_LOST):
            return 1
        running = trial.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        here = f"{socket.gethostname()}:"
        others = [
            one
            for one in running
            if one.number != trial.number and str(one.user_attrs.get(WORKER)).startswith(here)  # anybody may write it
        ]
        return max(1, self.slot.n_cores // (1 + len(others)))

    def _drive(self, trial: optuna.Trial, run: RunConfig, cores: int) -> float:
        child = self._start(trial, run, cores)
        reports = TrialReports(trial, is_exact=self.config.is_exact)
        is_pruned = False
        clock = _Clock(self.trial_timeout_s, self.database.lease.heartbeat_s)
        try:
            while True:
                if self.signals.is_interrupted:
                    reports.write()
                    note(trial, Ending.INTERRUPTED, "the worker was told to stop")
                    raise TrialFailed("interrupted")
                if clock.is_over:
                    reports.write()
                    self._end_late(trial, is_pruned)
                reports.write_old()
                if clock.look_at_lease() and trial.storage.get_trial(id_of(trial)).state.is_finished():
                    # We were suspended, or cut off from the database, for longer than the lease.
                    raise TrialFailed("the trial's lease was lost")
                message = child.next_message(_POLL_S)
                clock.heard(message)
                self.display.hear(message)
                if isinstance(message, Value) and not is_pruned:
                    is_pruned = self._relay(trial, run, message, reports)
                    if is_pruned:
                        child.stop()
                elif isinstance(message, Failure):
                    reports.write()
                    self._fail(trial, message)
                elif isinstance(message, Result):
                    return self._finish(trial, message, is_pruned, reports)
        finally:
            child.close()

    def _fail(self, trial: optuna.Trial, failure: Failure) -> NoReturn:
        """Write down why there is no result."""
        kind = fault(failure.message) if failure.kind == "bug" else failure.kind
        if kind == "disk_full":
            note(trial, Ending.INTERRUPTED, "the disk is full")
            raise UserError(
                f"The disk of {self.directory} is full: make room, then run the same command again. "
                f"Trial {trial.number} is left to be run again."
            )
        note(trial, Ending(kind), failure.message)
        if kind == "refused":
            raise UserError(failure.message)
        raise TrialFailed(failure.message)

    def _end_late(self, trial: optuna.Trial, is_pruned: bool) -> NoReturn:
        """End a trial whose time is over: a finding about its configuration, so it counts and is not run again."""
        if is_pruned:  # its child was told to stop and hangs
            note(trial, Ending.PRUNED, "")
            raise optuna.TrialPruned
        reason = f"took longer than {self.trial_timeout_s:g} s"
        note(trial, Ending.TIMEOUT, reason)
        trial.set_constraint(Ending.TIMEOUT.value, 1.0)
        raise optuna.TrialPruned(reason)

    def _start(self, trial: optuna.Trial, run: RunConfig, cores: int) -> Running:
        try:
            before = interrupted_folder(self.directory, trial)
            folder = trial_folder(self.directory, trial.number)
            start = self.reused if self.start is Child and may_follow(run) else self.start
            return isolated_run(
                run,
                self.split,
                self.places,
                folder,
                resume=before,
                start=start,
                cores=cores,
                may_be_pruned=judges_epochs(trial.study.pruner),
            )
        except OSError as error:
            if error.filename is None:  # no process could be started: not what the user did
                raise
            note(trial, Ending.INTERRUPTED, "its folder could not be made")
            raise UserError(
                f"{error.filename} cannot be written ({error.strerror}): see to it, then run the same command again."
            ) from None

    def _relay(self, trial: optuna.Trial, run: RunConfig, message: Value, reports: TrialReports) -> bool:
        """Report a validation; whether the trial is to be pruned.

        The child trains on meanwhile: what it finds after a verdict is dropped, so the verdict alone decides.
        """
        self.display.value(message.fold, None if self.config.is_exact else message.epoch, message.value)
        if message.value is None:
            return False
        reports.add(step_of(message.fold, message.epoch, self.config.epochs_per_fold), message.value)
        n_folds = build_validation(run.validation).n_folds_in_all
        is_last = (message.fold + 1, message.epoch + 1) == (n_folds, run.trainer.max_epochs)  # nothing would be saved
        return not is_last and should_prune(trial)

    def _finish(self, trial: optuna.Trial, result: Result, is_pruned: bool, reports: TrialReports) -> float:
        ending = Ending.PRUNED if is_pruned else Ending(result.ending)
        files = self.artifacts.plan(trial.number, result) if ending == Ending.COMPLETE else {}
        checkpoints = self.artifacts.checkpoints(trial.number, result)
        record = {
            **result.record(),
            "checkpoints": [str(path.relative_to(self.directory.parent)) for path in checkpoints],
            "weight_hashes": [hash_or_missing(path) for path in checkpoints if path in files],
            "versions": package_versions(),
            "machine": machine_kind(result.device),
        }
        reason = {} if is_pruned or not result.reason else {REASON: result.reason}
        rise = {} if result.excess_rise is None else {EXCESS_RISE: result.excess_rise}
        found = {RESULT: record, ENDING: ending.value, **reason, **rise}
        system: dict[str, Any] = {**attributes_of(files)}
        if ending.is_infeasible:
            system |= constraint(ending.value, 1.0)
        elif ending == Ending.COMPLETE and result.excess_rise is not None:
            system |= constraint(RISE, result.excess_rise)
        set_attributes(trial, user=found, system=system, values=reports.take())
        self.artifacts.keep(trial.number, files)
        if ending != Ending.COMPLETE:
            # Of a run that ended before it heard that it was pruned.
            (trial_folder(self.directory, trial.number) / VALIDATION).unlink(missing_ok=True)
            raise optuna.TrialPruned(result.reason)
        assert result.value is not None
        return result.value


class _Clock:
    """How long a trial has taken, and when to look after its lease."""

    def __init__(self, timeout_s: float | None, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        now = time.monotonic()
        self._deadline = None if timeout_s is None else now + timeout_s
        self._heard = self._looked = now

    @property
    def is_over(self) -> bool:
        """Whether the trial's time is."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def look_at_lease(self) -> bool:
        """Whether it is time to look again; true once for each heartbeat."""
        now = time.monotonic()
        if now - self._looked < self._heartbeat_s:
            return False
        self._looked = now
        return True

    def heard(self, message: Message | None) -> None:
        """Exclude shared work (feature extraction) from this trial's time limit."""
        if message is None:
            return
        now = time.monotonic()
        if isinstance(message, Working) and self._deadline is not None:
            self._deadline += now - self._heard
        self._heard = now
