"""The worker loop: trials until the study's budget is reached, exactly, whoever else works on it."""

import contextlib
import datetime
import os
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from datasets.errors import UserError
from datasets.seeds import derive_seed
from models.places import Places
from search import targets
from search.artifacts import Artifacts
from search.config import StudyConfig
from search.control import POLL_S, Control, read_control
from search.endings import REASON, RETRY_OF, TrialFailed, is_own_fault, run_lost_trials_again
from search.progress import Display
from search.signals import Signals
from search.storage import LEASE_S, Database
from search.study import DIRECTION, EXHAUSTED, count
from search.trial import WORKER, TrialRunner

_WAIT_S = 0.5


class TooManyFailures(Exception):
    """Trials failed one after the other; the message is the last one's error."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Works on one study in this process. `n_target` counts finished trials of the whole study."""

    study: Study
    database: Database
    config: StudyConfig
    split: Path
    places: Places
    directory: Path
    n_target: int
    max_failures: int
    signals: Signals
    display: Display
    artifacts: Artifacts

    def work(self) -> None:
        """Run trials until the study has `n_target` finished ones or a signal says otherwise.

        Raises:
            TooManyFailures: `max_failures` trials in a row failed by the program's own fault.
        """
        n_failures = 0
        while not self.study.user_attrs.get(EXHAUSTED) and not self.signals.is_draining:
            trial = self._next_trial()
            if trial is None:
                return
            trials = self.study.get_trials(deepcopy=False)
            self.display.end(trial, trials)
            self.artifacts.remove_others(trials)
            if self.study._stop_flag and trial.state != TrialState.FAIL:  # that one is run again first
                # A grid or a space without continuous values was used up; Optuna would go on with repetitions.
                self.study.set_user_attr(EXHAUSTED, True)
                return
            if trial.state != TrialState.FAIL:
                n_failures = 0
            elif is_own_fault(trial):
                n_failures += 1
                if n_failures >= self.max_failures:
                    raise TooManyFailures(trial.user_attrs.get(REASON, "unknown"))

    def _next_trial(self) -> FrozenTrial | None:
        """Run one trial and return it; None once the budget is reached, or a signal or a drain says to start none."""
        waited_for: Control | None = None
        while not self.signals.is_draining:
            self.database.lock.acquire()
            try:
                self._reclaim()
                counts = count(self.study.get_trials(deepcopy=False))
                control = read_control(self.study)
                if counts.n_finished >= self.n_target or control == "drain":
                    return None
                if control == "run" and counts.n_finished + counts.n_running < self.n_target:
                    return self._run_one()
            finally:
                # The trial itself has let go of it as soon as it was asked for.
                self.database.lock.release(force=True)
            sentence = (
                f"Study {self.study.study_name} is paused: `resume` lets it go on, `drain` ends it."
                if control == "pause"
                else f"Waiting for {counts.n_running} running trial(s): of another worker, or of one that is gone "
                f"(its lease is over within {LEASE_S} s)."
            )
            if control != waited_for:
                waited_for = control
                self.display.wait(sentence)
            time.sleep(POLL_S if control == "pause" else _WAIT_S)
        return None

    def _run_one(self) -> FrozenTrial:
        """Ask for a trial under the lock, let go of it, run the trial."""
        asked: list[optuna.Trial] = []

        def on_asked(trial: optuna.Trial) -> None:
            asked.append(trial)
            self.database.lock.release(force=True)
            self.display.start(trial.number)

        runner = TrialRunner(
            config=self.config,
            split=self.split,
            places=self.places,
            directory=self.directory,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            is_interrupted=lambda: self.signals.is_interrupted,
            on_asked=on_asked,
            display=self.display,
            artifacts=self.artifacts,
        )
        self.study.sampler = self._sampler()
        try:
            self.study.optimize(runner, n_trials=1, catch=(TrialFailed,))
        except (UpdateFinishedTrialError, AssertionError):
            # Optuna's way of saying that another worker found our lease over while we still ran.
            if not asked or self._frozen(asked[0]).state == TrialState.RUNNING:
                raise
        return self._frozen(asked[0])

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        return self.database.storage.get_trial(trial._trial_id)

    def _sampler(self) -> optuna.samplers.BaseSampler:
        """A sampler whose seed depends on how many trials were sampled before, not on who was interrupted.

        A sampler that is kept from trial to trial would begin anew after every restart, with the same draws.
        """
        trials = self.study.get_trials(deepcopy=False)
        n_sampled = sum(trial.state != TrialState.WAITING and RETRY_OF not in trial.user_attrs for trial in trials)
        return make_sampler(self.config, n_sampled)

    def _reclaim(self) -> None:
        """Fail the trials whose worker is gone, and put them back in line."""
        fail_stale_trials(self.study)
        oldest = datetime.datetime.now() - datetime.timedelta(seconds=LEASE_S)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            never_heard_of = WORKER not in trial.user_attrs
            if never_heard_of and trial.datetime_start and trial.datetime_start < oldest:
                try:
                    self.database.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                except UpdateFinishedTrialError:
                    continue
        run_lost_trials_again(self.study)


def check_search(config: StudyConfig) -> None:
    """Ask the sampler and the pruner for one trial of a study in memory, before anything trains.

    Raises:
        UserError: They refuse their arguments, or this space.
    """
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
    """The study's sampler; a seed of null becomes one derived from the study's seed and `n_sampled`."""
    tree = dict(config.sampler)
    if "seed" in tree and tree["seed"] is None:
        tree["seed"] = derive_seed("sampler", config.defaults["seed"], n_sampled) % 2**32
    with _without_experimental_warnings():
        sampler: optuna.samplers.BaseSampler = targets.instantiate(tree, targets.SAMPLER, "sampler")
    return sampler


def make_pruner(config: StudyConfig) -> optuna.pruners.BasePruner:
    """The study's pruner."""
    with _without_experimental_warnings():
        pruner: optuna.pruners.BasePruner = targets.instantiate(config.pruner, targets.PRUNER, "pruner")
    return pruner


@contextlib.contextmanager
def _without_experimental_warnings() -> Iterator[None]:
    """Which parts of Optuna may still change is our concern, not that of whoever names them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
