"""Where the states of interrupted trials stand, and when they are of no use any more."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.artifacts import trial_folder
from search.endings import ENDING, FINAL, RETRY_OF
from search.state_files import FOLDER, has_state, remove_state


def interrupted_folder(study_folder: Path, trial: optuna.Trial) -> Path | None:
    """The folder of the latest trial that `trial` repeats and that left a state on this machine."""
    number = trial.user_attrs.get(RETRY_OF)
    if number is None:
        return None
    by_number = {other.number: other for other in trial.study.get_trials(deepcopy=False)}
    folders = (trial_folder(study_folder, before.number) for before in _from(number, by_number))
    return next(filter(has_state, folders), None)


def remove_states(study_folder: Path, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
    """Remove the states of a trial and of those it repeated, if it ended for good: one that failed may go on."""
    if _is_over(trial):
        for useless in _from(trial.number, {other.number: other for other in trials}):
            remove_state(trial_folder(study_folder, useless.number))


def remove_old_states(study_folder: Path, trials: Sequence[FrozenTrial]) -> None:
    """Do the same for all trials that ended: their workers may have been killed before they could."""
    by_number = {trial.number: trial for trial in trials}
    over = {useless.number for trial in trials if _is_over(trial) for useless in _from(trial.number, by_number)}
    useless_folders = {trial_folder(study_folder, number) for number in over}
    for state in study_folder.glob(f"trial-*/{FOLDER}"):
        if state.parent in useless_folders:
            remove_state(state.parent)


def _is_over(trial: FrozenTrial) -> bool:
    is_finished = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return is_finished or (trial.state == TrialState.FAIL and trial.user_attrs.get(ENDING) in FINAL)


def _from(number: int | None, by_number: Mapping[int, FrozenTrial]) -> Iterator[FrozenTrial]:
    """A trial, the one that it repeats, and so on."""
    while number is not None and number in by_number:
        yield by_number[number]
        number = by_number[number].user_attrs.get(RETRY_OF)
