"""One trial: parameters from the sampler, a run in a child process, its reports relayed to Optuna."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from datasets.errors import UserError
from models.places import Places
from search.artifacts import Artifacts, attributes_of, file_hash
from search.attributes import set_attributes
from search.config import StudyConfig
from search.endings import ENDING, INFEASIBLE, REASON, TrialFailed, note
from search.isolation import Announcement, Failure, Value, Working, isolated_run
from search.machine import machine_kind, package_versions
from search.progress import Display
from search.result import Result
from search.schema import RunConfig

RESULT = "result"
WORKER = "worker"
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class TrialRunner:
    """Runs trials of one study.

    Args:
        config: The study.
        split: Path of the prepared split.
        places: Where runs find weights and keep caches.
        directory: The study's folder; each trial gets one below it.
        worker: Name of the process that holds the lease.
        is_interrupted: Asked several times a second; once true, the trial ends and is left to be run again.
        on_asked: Called as soon as the trial stands as RUNNING in the database with a first heartbeat.
        display: Told of each validation and of what a run announces.
        artifacts: Keeps what people find beside the trial.
    """

    config: StudyConfig
    split: Path
    places: Places
    directory: Path
    worker: str
    is_interrupted: Callable[[], bool]
    on_asked: Callable[[optuna.Trial], None]
    display: Display
    artifacts: Artifacts

    def __call__(self, trial: optuna.Trial) -> float:
        """The objective: the run's value, `TrialPruned`, or `TrialFailed` with the ending written down."""
        # A trial with this attribute has been heard of; one without is as old as its start.
        trial.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        trial.set_user_attr(WORKER, self.worker)
        self.on_asked(trial)
        try:
            run = self.config.run(self.config.space.suggest(trial, self.config.defaults))
            return self._drive(trial, run)
        except UpdateFinishedTrialError:
            # Somebody found our lease over and gave the trial away: it is not ours to speak of any more.
            raise TrialFailed("the trial's lease was lost") from None

    def _drive(self, trial: optuna.Trial, run: RunConfig) -> float:
        child = isolated_run(run, self.split, self.places, self.directory / f"trial-{trial.number:05d}")
        is_pruned = False
        try:
            while True:
                if self.is_interrupted():
                    note(trial, "interrupted", "the worker was told to stop")
                    raise TrialFailed("interrupted")
                message = child.next_message(_POLL_S)
                if isinstance(message, Value) and not is_pruned:
                    is_pruned = self._relay(trial, run, message)
                    if is_pruned:
                        child.stop()
                elif isinstance(message, Announcement):
                    self.display.announce(message.sentence)
                elif isinstance(message, Working):
                    self.display.working(message.what, message.n_done, message.n_total)
                elif isinstance(message, Failure):
                    note(trial, message.kind, message.message)
                    if message.kind == "refused":
                        raise UserError(message.message)
                    raise TrialFailed(message.message)
                elif isinstance(message, Result):
                    return self._finish(trial, message, is_pruned)
        finally:
            child.close()

    def _relay(self, trial: optuna.Trial, run: RunConfig, message: Value) -> bool:
        """Report a validation; whether the trial is to be pruned.

        The child trains on meanwhile: what it finds after a verdict is dropped, so the verdict alone decides.
        """
        self.display.value(message.fold, message.epoch, message.value)
        if message.value is None:
            return False
        max_epochs = run.trainer.max_epochs
        trial.report(message.value, step=message.fold * max_epochs + message.epoch + 1)
        is_last_epoch = message.epoch + 1 == max_epochs  # nothing would be saved
        return not is_last_epoch and trial.should_prune()

    def _finish(self, trial: optuna.Trial, result: Result, is_pruned: bool) -> float:
        ending = "pruned" if is_pruned else result.ending
        files = self.artifacts.plan(trial, result) if ending == "complete" else {}
        checkpoints = self.artifacts.checkpoints(trial.number, result)
        record = {
            **result.record(),
            "checkpoints": [str(path.relative_to(self.directory.parent)) for path in checkpoints],
            "weight_hashes": [file_hash(path) for path in checkpoints if path in files],
            "versions": package_versions(),
            "machine": machine_kind(result.device),
        }
        reason = {} if is_pruned or not result.reason else {REASON: result.reason}
        set_attributes(trial, user={RESULT: record, ENDING: ending, **reason}, system=attributes_of(files))
        self.artifacts.keep(trial.number, files)
        if ending != "complete":
            if ending in INFEASIBLE:
                trial.set_constraint(ending, 1.0)
            raise optuna.TrialPruned(result.reason)
        assert result.value is not None
        return result.value
