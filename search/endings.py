"""How trials end, and what is written down about it.

Optuna knows COMPLETE, PRUNED and FAIL. `ending` (a user attribute of the trial) says why:

* complete, pruned: as in Optuna;
* diverged, constant, out_of_memory: PRUNED, a finding about the configuration, with a constraint where the
  configuration cannot run at all;
* bug, refused (the machine cannot run it, say without its GPU): FAIL, not run again;
* interrupted, lost: FAIL, run again from the same parameters. A trial without an ending was lost together with
  its worker.
"""

from collections.abc import Iterable
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

ENDING = "ending"
REASON = "reason"
RETRY_OF = "retry_of"
N_LOST = "n_lost"
MAX_LOST = 3
"""How often a trial may lose its process before that counts as its own fault."""

PRUNED_ENDINGS = ("diverged", "constant", "out_of_memory")
FINAL = ("bug", "refused")
INFEASIBLE = ("out_of_memory",)


class TrialFailed(Exception):
    """The trial is FAIL: raised out of the objective, caught by the worker."""


def run_lost_trials_again(study: Study) -> int:
    """Put every interrupted or lost trial back in line with its parameters, each once; returns how many."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    n = 0
    for trial in trials:
        if trial.state != TrialState.FAIL or trial.number in retried or trial.user_attrs.get(ENDING) in FINAL:
            continue
        was_interrupted = trial.user_attrs.get(ENDING) == "interrupted"
        n_lost = trial.user_attrs.get(N_LOST, 0) + (0 if was_interrupted else 1)
        if n_lost > MAX_LOST:
            continue
        # Parameters that were never sampled come from the line itself, where it had any.
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number, N_LOST: n_lost})
        n += 1
    return n


def count_own_faults(trials: Iterable[FrozenTrial]) -> int:
    """How many trials failed for good; the others that failed are run again."""
    return sum(map(is_own_fault, trials))


def is_own_fault(trial: FrozenTrial) -> bool:
    """Whether the trial failed and will not be run again."""
    if trial.state != TrialState.FAIL:
        return False
    ending = trial.user_attrs.get(ENDING)
    return ending in FINAL or (ending == "lost" and trial.user_attrs.get(N_LOST, 0) >= MAX_LOST)


def note(trial: Any, ending: str, reason: str) -> None:
    """Write down how a running trial ends."""
    trial.set_user_attr(ENDING, ending)
    if reason:
        trial.set_user_attr(REASON, reason)
