"""The worker loop: trials until the study's budget is reached, exactly, whoever else works on it."""

import contextlib
import datetime
import time
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna import Study
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from datasets.common.errors import UserError
from search.config import targets
from search.machine.standard_streams import printable
from search.storage.attributes import ENDING, EXHAUSTED, REASON, WORKER
from search.storage.ending import Ending
from search.storage.optuna_internals import id_of, was_stopped
from search.study.config import StudyConfig
from search.study.control import POLL_S, Control, control_in
from search.study.endings import (
    MAX_RETRIES,
    TrialFailed,
    latest_faults,
    note,
    remove_old_states,
    remove_states,
    run_lost_trials_again,
)
from search.study.hours.budget import NO_LIMIT, HoursBudget
from search.study.hours.meter import Meter, recorded_hours
from search.study.protocol import build_validation
from search.study.pruning import FoldPruner
from search.study.study import DIRECTION
from search.study.trials.sampler_seeds import seeded
from search.study.trials.tally import Tally
from search.study.trials.window import Windowed
from search.workers.tracking.tracker import Tracker, check_tracker
from search.workers.trial import TrialRunner

_NOT_OF_THE_SAMPLER = (UserError, SQLAlchemyError, StorageInternalError)
"""What an unanswered question for a trial raises of the database or of the user, not of a sampler."""
_WAIT_S = 0.5
_MAX_REST_S = 60.0


class TooManyFailures(Exception):
    """Trials failed one after the other; the message is the last one's error."""


@dataclass(frozen=True, kw_only=True)
class Worker(TrialRunner):
    """Works on one study in this process.

    Args:
        study: The study.
        n_target: Finished trials of the whole study.
        max_failures: So many trials in a row that failed by the program's own fault end the work.
        max_retries: How often a trial that was lost is run again.
        known_failures: Trials that failed before this call and do not count any more.
        hours: Once they are used, by all workers together, no trial begins; where it names none, the study's own.
    """

    study: Study
    n_target: int
    max_failures: int
    max_retries: int = MAX_RETRIES
    known_failures: Collection[int] = ()
    hours: HoursBudget = NO_LIMIT

    def work(self) -> None:
        """Run trials until the study has `n_target` finished ones or a signal says otherwise.

        Raises:
            TooManyFailures: `max_failures` trials in a row failed by the program's own fault, whoever ran them.
        """
        tally = self._read()
        remove_old_states(self.directory, tally.trials)
        self.artifacts.remove_others(tally.trials)
        self.study.pruner = make_pruner(self.config)  # the database keeps none
        build_validation(self.config.defaults["validation"])  # imports its class while the checkout is what it was
        tracker = Tracker(self.study, self.config, self.directory, self.display.announce)
        try:
            self._run_trials(tally, tracker)
        finally:
            self.reused.close()
        tracker.close()

    def _run_trials(self, tally: Tally, tracker: Tracker) -> None:
        n_lost, meter = 0, Meter(self.study)
        while (number := self._next_trial(meter)) is not None:
            trial = self._read().retries.trial(number)
            if trial.state == TrialState.FAIL:
                with self.database.lock:  # requeue now, or another worker counts it as a final failure
                    self._read()
                    self._run_lost_trials_again()
            self.display.end(trial, tally.trials)
            if not self.signals.is_interrupted:  # who is in a hurry
                tracker.end(trial)
            self.artifacts.remove_others(tally.trials)
            remove_states(self.directory, trial, tally.retries)
            if was_stopped(self.study) and trial.state != TrialState.FAIL:
                # A grid or a space without continuous values was used up; Optuna would go on with repetitions.
                self.study.set_user_attr(EXHAUSTED, True)
            noted = trial.user_attrs.get(ENDING)
            n_lost = n_lost + 1 if noted and Ending(noted).is_lost else 0
            self._rest(n_lost)

    def _rest(self, n_lost: int) -> None:
        """Back off after repeated losses so that other machines can take these trials."""
        until = time.monotonic() + (min(_MAX_REST_S, _WAIT_S * 2 ** (n_lost - 2)) if n_lost > 1 else 0)
        while time.monotonic() < until and not self.signals.is_draining:
            time.sleep(0.1)

    def _next_trial(self, meter: Meter) -> int | None:
        """Run one trial and return its number; None if nothing is left to do, or a signal or a drain ends the work."""
        waited_for: Control | None = None
        while not self.signals.is_draining:
            self.database.lock.acquire()
            try:
                self._reclaim()
                self._check_failures()
                counts = self._tally.counts
                attributes = self.study.user_attrs
                # In an exhausted space only waiting and running trials remain; a running one may still be lost.
                is_exhausted = bool(attributes.get(EXHAUSTED))
                control = control_in(attributes)
                if counts.n_finished >= self.n_target or control == "drain":
                    return None
                if is_exhausted and not counts.n_waiting and not counts.n_running:
                    return None
                hours = self.hours.over(recorded_hours(attributes))
                if hours.is_any and hours.is_spent(meter.read(self._tally.trials)):
                    return None
                is_free = counts.n_finished + counts.n_running < self.n_target
                if control == "run" and is_free and (counts.n_waiting or not is_exhausted):
                    return self._run_one()
            finally:
                # The trial itself has let go of it as soon as it was asked for.
                self.database.lock.release()
            sentence = (
                f"Study {self.study.study_name} is paused: `resume` lets it go on, `drain` ends it."
                if control == "pause"
                else f"Waiting for {counts.n_running} running trial(s): of another worker, or of one that is gone "
                f"(its lease expires within {self.database.lease.lease_s} s)."
            )
            if control != waited_for:
                waited_for = control
                self.display.wait(sentence)
            time.sleep(POLL_S if control == "pause" else _WAIT_S)
        return None

    def _check_failures(self) -> None:
        latest = latest_faults(self._tally.trials, self._tally.retries, self.known_failures)
        if len(latest) >= self.max_failures:
            raise TooManyFailures(latest[0].user_attrs.get(REASON, "its process was lost"))

    def _run_one(self) -> int:
        """Ask for a trial under the lock, let go of it, run the trial, return its number."""
        asked: list[optuna.Trial] = []

        def on_asked(trial: optuna.Trial) -> None:
            asked.append(trial)
            self.database.lock.release()
            if self.database.lock.was_lost:  # so somebody else may have counted before this trial was there to count
                note(trial, Ending.INTERRUPTED, "the database lost the lock under which the trial was asked for")
                raise TrialFailed("the lock was lost")
            self.display.start(trial.number)

        raised: list[Exception] = []

        def objective(trial: optuna.Trial) -> float:
            try:
                return self.run_trial(trial, on_asked)
            except Exception as error:
                raised.append(error)
                raise

        self.study.sampler = self._sampler()
        try:
            self.study.optimize(objective, n_trials=1, catch=(TrialFailed,))
        except Exception as error:
            if not asked and not isinstance(error, _NOT_OF_THE_SAMPLER) and self.database.has(self.study.study_name):
                raise UserError(
                    f"The sampler {self.config.sampler['_target_']} cannot propose a trial from those of study "
                    f"{self.study.study_name!r} ({type(error).__name__}: {printable(str(error))}): `doctor` shows "
                    "rows that were damaged; else begin another study with sampler=tpe."
                ) from error
            if not isinstance(error, (UpdateFinishedTrialError, AssertionError, ValueError)):
                raise
            # Optuna's ways of saying that another worker found our lease expired while we still ran.
            storage = self.database.storage
            if error in raised or not asked or storage.get_trial(id_of(asked[0])).state == TrialState.RUNNING:
                raise
        return asked[0].number

    def _sampler(self) -> optuna.samplers.BaseSampler:
        """A sampler whose seed depends on how many trials were sampled before, not on who asks or was interrupted.

        A sampler that is kept from trial to trial would begin anew after every restart, with the same draws; and
        workers that ask one after the other, each under the lock, never have the same seed.
        """
        sampler = make_sampler(self.config, self._tally.n_sampled)
        return Windowed(sampler, self._tally) if Windowed.fits(sampler, self._tally) else sampler

    def _reclaim(self) -> None:
        """Fail the trials whose worker is gone, requeue them, and read all trials as they are then."""
        fail_stale_trials(self.study)
        oldest = datetime.datetime.now() - datetime.timedelta(seconds=self.database.lease.lease_s)
        has_changed = False
        for trial in self._read().running:
            if WORKER in trial.user_attrs or not self.database.is_settled():
                continue
            if trial.datetime_start and trial.datetime_start < oldest:
                with contextlib.suppress(UpdateFinishedTrialError):
                    self.database.storage.set_trial_state_values(id_of(trial), TrialState.FAIL)
                has_changed = True
        if has_changed:
            self._read()
        self._run_lost_trials_again()

    def _run_lost_trials_again(self) -> None:
        if run_lost_trials_again(self.study, self._tally.failed, self._tally.retries, self.max_retries):
            self._read()

    def _read(self) -> Tally:
        """The study's trials as they are now."""
        self._tally.see(self.study.get_trials(deepcopy=False))
        return self._tally

    @cached_property
    def _tally(self) -> Tally:
        return Tally()


def check_search(config: StudyConfig) -> None:
    """Ask the sampler and the pruner for one trial of a study in memory, before anything trains.

    Raises:
        UserError: They refuse their arguments, or this space; or the logger's package is not installed.
    """
    check_tracker(config.defaults["logger"])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=make_sampler(config, 0), pruner=make_pruner(config), direction=DIRECTION)
    try:
        trial = study.ask()
        config.space.suggest(trial, config.defaults)
        trial.report(0.0, step=1)
        trial.should_prune()
        study.tell(trial, 0.0)
    except (ValueError, RuntimeError, ArithmeticError, AssertionError) as error:
        names = f"sampler {config.sampler['_target_']} or the pruner {config.pruner['_target_']}"
        raise UserError(f"The {names} cannot search this space: {' '.join(str(error).split())}") from None


def make_sampler(config: StudyConfig, n_sampled: int) -> optuna.samplers.BaseSampler:
    """The study's sampler, with seeds for the trial after `n_sampled` others."""
    tree = seeded(config.sampler, config.defaults["seed"], n_sampled)
    with without_experimental_warnings():
        sampler: optuna.samplers.BaseSampler = targets.instantiate(tree, targets.SAMPLER, "sampler")
    return sampler


def make_pruner(config: StudyConfig) -> optuna.pruners.BasePruner:
    """The study's pruner; one that knows nothing of folds judges the first."""
    with without_experimental_warnings():
        pruner: optuna.pruners.BasePruner = targets.instantiate(config.pruner, targets.PRUNER, "pruner")
    by_folds = pruner if isinstance(pruner, FoldPruner) else FoldPruner(pruner)
    by_folds.epochs_per_fold = config.epochs_per_fold
    return by_folds


@contextlib.contextmanager
def without_experimental_warnings() -> Iterator[None]:
    """Which parts of Optuna may still change is our concern, not that of whoever names them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
