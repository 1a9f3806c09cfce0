"""How trials end, and what is written down about it.

Optuna knows COMPLETE, PRUNED and FAIL. `ending` (a user attribute of the trial) says why:

* complete, pruned: as in Optuna;
* diverged, constant, out_of_memory, timeout: PRUNED, a finding about the configuration, with a constraint where the
  configuration cannot run at all, or not in the time that a trial is given;
* bug, refused (the machine cannot run it, say without its GPU): FAIL, not run again;
* interrupted: FAIL, run again from the same parameters, however often;
* lost (its process died), transient (an error that is the machine's): FAIL, run again a bounded number of times. A
  trial without an ending was lost together with its worker, or given away when its lease was over.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import ENDING, N_LOST, REASON, RETRY_OF

MAX_RETRIES = 3
"""How often a trial is run again that lost its process, unless --max-retries says otherwise."""

FINAL = ("bug", "refused")
INFEASIBLE = ("out_of_memory", "timeout")


class TrialFailed(Exception):
    """The trial is FAIL: raised out of the objective, caught by the worker."""


def run_lost_trials_again(
    study: Study, max_retries: int = MAX_RETRIES, trials: Sequence[FrozenTrial] | None = None
) -> int:
    """Requeue every interrupted or lost trial with its parameters, each once; returns how many.

    `trials` are the study's, for whoever has just read them.
    """
    if trials is None:
        trials = study.get_trials(deepcopy=False)
    retried = _retried(trials)
    n = 0
    for trial in trials:
        if trial.state != TrialState.FAIL or trial.number in retried or trial.user_attrs.get(ENDING) in FINAL:
            continue
        n_lost = trial.user_attrs.get(N_LOST, 0) + (0 if _was_interrupted(trial) else 1)
        if n_lost > max_retries:
            continue
        # Parameters not yet sampled come from the queued trial's `fixed_params`.
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number, N_LOST: n_lost})
        n += 1
    return n


def retry_chain(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> Iterator[FrozenTrial]:
    """A trial, the earlier one whose parameters it runs again, the one that this one ran again, and so on.

    It ends, because a retry has a higher number than what it repeats: `search.storage.rows.checks` refuses any other.
    """
    latest: FrozenTrial | None = trial
    while latest is not None:
        yield latest
        latest = by_number.get(latest.user_attrs.get(RETRY_OF, -1))


def own_faults(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the trials that failed for good; the others that failed are run again.

    A lost trial that nobody requeued was given up. Whoever finds one lost requeues it at once.
    """
    retried = _retried(trials)
    return {
        trial.number
        for trial in trials
        if trial.state == TrialState.FAIL
        and trial.number not in retried
        and (trial.user_attrs.get(ENDING) in FINAL or not _was_interrupted(trial))
    }


def count_own_faults(trials: Sequence[FrozenTrial]) -> int:
    """How many trials failed for good."""
    return len(own_faults(trials))


def latest_faults(trials: Sequence[FrozenTrial], known: Collection[int] = ()) -> list[FrozenTrial]:
    """The trials that failed for good since one was finished, the latest first, whoever ran them.

    Trials are in the order in which they began: clocks of several machines cannot order their ends. What is run again
    says nothing; `known` are failures from before this call, which somebody may have seen to.
    """
    faults = own_faults(trials)
    latest: list[FrozenTrial] = []
    for trial in sorted(trials, key=lambda trial: -trial.number):
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            return latest
        if trial.number in faults and trial.number not in known:
            latest.append(trial)
    return latest


def note(trial: Any, ending: str, reason: str) -> None:
    """Write down how a running trial ends."""
    trial.set_user_attr(ENDING, ending)
    if reason:
        trial.set_user_attr(REASON, reason)


def _was_interrupted(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(ENDING) == "interrupted")


def _retried(trials: Sequence[FrozenTrial]) -> set[int | None]:
    return {trial.user_attrs.get(RETRY_OF) for trial in trials}
