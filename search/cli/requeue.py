"""The requeue command: a trial that failed for good, or met a limit of its machine, is queued once more."""

import argparse

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError
from search.request.inputs import open_existing
from search.storage.attributes import ENDING, EXHAUSTED, N_LOST, N_TARGET, RETRY_OF, WORKER
from search.study.study import count, find_study

# Endings that depend on the machine and may not recur.
_OF_THE_MACHINE = ("out_of_memory", "timeout")


def run_requeue(arguments: argparse.Namespace) -> int:
    """Queue the trial again and say its new number."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    study = find_study(database, arguments.study_name)
    with database.lock:  # workers requeue lost trials as well, each once
        trials = study.get_trials(deepcopy=False)
        trial = find_trial(study, trials, arguments.trial)
        check_requeue(trial, trials)
        number = put_back(study, trial)
        counts, n_target = count(study.get_trials(deepcopy=False)), study.user_attrs.get(N_TARGET, 0)
    words = [f"Trial {trial.number} is queued again as trial {number}, with its parameters."]
    if trial.state == TrialState.PRUNED:
        words.append(f"Trial {trial.number} still counts as finished; trial {number} will count as one more.")
    if counts.n_finished + counts.n_running >= n_target:
        words.append(f"The study has its {n_target} trials: ask for more with --n-trials to have it run.")
    print(" ".join(words))
    return 0


def find_trial(study: Study, trials: list[FrozenTrial], number: int) -> FrozenTrial:
    """The trial of that number.

    Raises:
        UserError: There is none.
    """
    found = next((trial for trial in trials if trial.number == number), None)
    if found is None:
        has = f"its trials are 0 to {max(trial.number for trial in trials)}" if trials else "it has none yet"
        raise UserError(f"Study {study.study_name} has no trial {number}: {has}.")
    return found


def check_requeue(trial: FrozenTrial, trials: list[FrozenTrial]) -> None:
    """Refuse a trial that there is no reason to run again.

    Raises:
        UserError: It is complete, a finding about its configuration, not over yet, or was requeued before.
    """
    again = next((other for other in trials if other.user_attrs.get(RETRY_OF) == trial.number), None)
    if again is not None:
        raise UserError(
            f"Trial {trial.number} was requeued before, as trial {again.number} ({again.state.name.lower()}): "
            f"requeue {again.number} instead, should it fail for good."
        )
    if trial.state == TrialState.FAIL:
        return
    ending = str(trial.user_attrs.get(ENDING, trial.state.name.lower()))
    if trial.state == TrialState.PRUNED and ending in _OF_THE_MACHINE:
        return
    why = {
        TrialState.COMPLETE: f"is complete with value {trial.value}, and running it again would find the same",
        TrialState.PRUNED: f"ended as {ending.replace('_', ' ')}, and running it again would find the same",
        TrialState.RUNNING: f"is running, by {trial.user_attrs.get(WORKER, 'a worker that just began')}",
        TrialState.WAITING: "is queued already",
    }[trial.state]
    raise UserError(
        f"Trial {trial.number} {why}: only trials that failed, or that ran out of memory or time, are requeued."
    )


def put_back(study: Study, trial: FrozenTrial) -> int:
    """Enqueue the trial's parameters and return the new number. To be called under the database's lock.

    The new trial may lose its process as often as any first one.
    """
    # Parameters that were never sampled come from the line itself, where it had any.
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number, N_LOST: 0})
    if study.user_attrs.get(EXHAUSTED):
        study.set_user_attr(EXHAUSTED, False)  # one point of the space is open again
    trials = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    return max(other.number for other in trials if other.user_attrs.get(RETRY_OF) == trial.number)
