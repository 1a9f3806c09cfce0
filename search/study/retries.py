"""Where the states of interrupted trials stand, and when they are of no use any more."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RETRY_OF
from search.study.endings import Retries, has_failed_for_good
from search.training.checkpoint.files import FOLDER, has_state, remove_state
from search.training.result import trial_folder


def interrupted_folder(study_folder: Path, trial: optuna.Trial) -> Path | None:
    """The folder of the latest trial that `trial` repeats and that left a state on this machine."""
    if RETRY_OF not in trial.user_attrs:
        return None
    trials = trial.study.get_trials(deepcopy=False)
    _, *before = Retries(trials).chain(next(other for other in trials if other.number == trial.number))
    return next(filter(has_state, (trial_folder(study_folder, earlier.number) for earlier in before)), None)


def remove_states(study_folder: Path, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
    """Remove the states of a trial and of those it repeated, if it ended for good: one that failed may go on."""
    if _is_over(trial):
        for useless in Retries(trials).chain(trial):
            remove_state(trial_folder(study_folder, useless.number))


def remove_old_states(study_folder: Path, trials: Sequence[FrozenTrial]) -> None:
    """Do the same for all trials that ended: their workers may have been killed before they could."""
    retries = Retries(trials)
    over = {useless.number for trial in trials if _is_over(trial) for useless in retries.chain(trial)}
    useless_folders = {trial_folder(study_folder, number) for number in over}
    for state in study_folder.glob(f"trial-*/{FOLDER}"):
        if state.parent in useless_folders:
            remove_state(state.parent)


def _is_over(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or has_failed_for_good(trial)
