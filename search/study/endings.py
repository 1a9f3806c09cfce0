"""What becomes of trials that ended: which are run again and from what state, which failed for good, who repeats whom.

COMPLETE and PRUNED trials count. Of FAIL trials (`search.storage.ending`) those that were interrupted are run again
from the same parameters, however often; those that lost their process a bounded number of times; bugs never.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import optuna
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import ENDING, FIRST, N_LOST, REASON, RETRY_OF, WARM_START
from search.storage.ending import Ending
from search.training.checkpoint.files import FOLDER, has_state, remove_state
from search.training.result import trial_folder

MAX_RETRIES = 3
"""How often a trial is run again that lost its process, unless --max-retries says otherwise."""


class TrialFailed(Exception):
    """The trial is FAIL: raised out of the objective, caught by the worker."""


class Retries:
    """Which trials of a study run the parameters of which others again."""

    def __init__(self, trials: Iterable[FrozenTrial] = ()) -> None:
        self._by_number: dict[int, FrozenTrial] = {}
        self._next: dict[int, FrozenTrial] = {}
        for trial in trials:
            self.add(trial)

    def add(self, trial: FrozenTrial) -> None:
        """A trial that is new, or not as it was when it was added before."""
        self._by_number[trial.number] = trial
        if RETRY_OF in trial.user_attrs:
            self._next[trial.user_attrs[RETRY_OF]] = trial

    def trial(self, number: int) -> FrozenTrial:
        """The trial of that number."""
        return self._by_number[number]

    def retry_of(self, trial: FrozenTrial) -> FrozenTrial | None:
        """The latest trial that runs this one again; None if nobody requeued it."""
        return self._next.get(trial.number)

    def chain(self, trial: FrozenTrial) -> Iterator[FrozenTrial]:
        """A trial, the earlier one whose parameters it runs again, the one that this one ran again, and so on.

        It ends, because a retry has a higher number than what it repeats: `search.storage.rows.checks` refuses others.
        """
        latest: FrozenTrial | None = trial
        while latest is not None:
            yield latest
            latest = self._by_number.get(latest.user_attrs.get(RETRY_OF, -1))


def ending_of(trial: FrozenTrial) -> Ending | None:
    """How a trial ended: what is written down of it, or else what its state says; None of one that has not."""
    if ENDING in trial.user_attrs:
        return Ending(trial.user_attrs[ENDING])
    return _OF_STATES.get(trial.state)


_OF_STATES = {
    TrialState.COMPLETE: Ending.COMPLETE,
    TrialState.PRUNED: Ending.PRUNED,
    TrialState.FAIL: Ending.LOST,
}


def run_lost_trials_again(
    study: Study, failed: Sequence[FrozenTrial], retries: Retries, max_retries: int = MAX_RETRIES
) -> int:
    """Requeue every interrupted or lost trial of those that `failed` with its parameters, each once; how many."""
    n = 0
    for trial in failed:
        if has_failed_for_good(trial) or retries.retry_of(trial):
            continue
        n_lost = trial.user_attrs.get(N_LOST, 0) + (ending_of(trial) != Ending.INTERRUPTED)
        if n_lost <= max_retries:
            requeue(study, trial, n_lost=n_lost)
            n += 1
    return n


def requeue(study: Study, trial: FrozenTrial, *, n_lost: int = 0) -> None:
    """Queue a trial's parameters again. To be called under the database's lock."""
    # Parameters not yet sampled come from the queued trial's `fixed_params`.
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    origin = {key: trial.user_attrs[key] for key in (FIRST, WARM_START) if key in trial.user_attrs}
    study.enqueue_trial(params, user_attrs={**origin, RETRY_OF: trial.number, N_LOST: n_lost})


def has_failed_for_good(trial: FrozenTrial) -> bool:
    """Whether a trial failed by a fault that it would meet again."""
    ending = ending_of(trial)
    return trial.state == TrialState.FAIL and ending is not None and not ending.is_retried


def own_faults(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the trials that failed for good; the others that failed are run again.

    A lost trial that nobody requeued was given up. Whoever finds one lost requeues it at once.
    """
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    retries = Retries(trials if failed else ())
    return {trial.number for trial in failed if is_own_fault(trial, retries)}


def is_own_fault(failed: FrozenTrial, retries: Retries) -> bool:
    """Whether a trial that failed did so for good, or was given up."""
    return retries.retry_of(failed) is None and ending_of(failed) != Ending.INTERRUPTED


def latest_faults(trials: Sequence[FrozenTrial], retries: Retries, known: Collection[int] = ()) -> list[FrozenTrial]:
    """The trials that failed for good since one was finished, the latest first, whoever ran them.

    Trials are in the order in which they began: clocks of several machines cannot order their ends. What is run again
    says nothing; `known` are failures from before this call, which somebody may have seen to.
    """
    latest: list[FrozenTrial] = []
    for trial in reversed(trials):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            return latest
        if trial.state == TrialState.FAIL and is_own_fault(trial, retries) and trial.number not in known:
            latest.append(trial)
    return latest


def note(trial: optuna.Trial, ending: Ending, reason: str) -> None:
    """Write down how a running trial ends."""
    trial.set_user_attr(ENDING, ending.value)
    if reason:
        trial.set_user_attr(REASON, reason)


def interrupted_folder(study_folder: Path, trial: optuna.Trial) -> Path | None:
    """The folder of the latest trial that `trial` repeats and that left a state on this machine."""
    if RETRY_OF not in trial.user_attrs:
        return None
    retries = Retries(trial.study.get_trials(deepcopy=False))
    _, *before = retries.chain(retries.trial(trial.number))
    return next(filter(has_state, (trial_folder(study_folder, earlier.number) for earlier in before)), None)


def remove_states(study_folder: Path, trial: FrozenTrial, retries: Retries) -> None:
    """Remove the states of a trial and of those it repeated, if it ended for good: one that failed may go on."""
    if _is_over(trial):
        for useless in retries.chain(trial):
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
