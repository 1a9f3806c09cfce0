"""The requeue command: a trial that failed for good, or met a limit of its machine, is queued once more."""

import argparse

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError
from search.request.inputs import open_existing
from search.storage.attributes import EXHAUSTED, WORKER
from search.study.endings import Retries, ending_of, requeue
from search.study.snapshot import StudySnapshot
from search.study.study import find_study


def run_requeue(arguments: argparse.Namespace) -> int:
    """Queue the trial again and say its new number."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    study = find_study(database, arguments.study_name)
    with database.lock:  # workers requeue lost trials as well, each once
        trials = study.get_trials(deepcopy=False)
        trial = find_trial(study, trials, arguments.trial)
        check_requeue(trial, trials)
        number = put_back(study, trial)
        now = StudySnapshot.of(study)
    words = [f"Trial {trial.number} is queued again as trial {number}, with its parameters."]
    if trial.state == TrialState.PRUNED:
        words.append(f"Trial {trial.number} still counts as finished; trial {number} will count as one more.")
    if now.n_left <= now.counts.n_running:
        words.append(f"The study has its {now.n_target} trials: ask for more with --n-trials to have it run.")
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
    again = Retries(trials).retry_of(trial)
    if again is not None:
        raise UserError(
            f"Trial {trial.number} was requeued before, as trial {again.number} ({again.state.name.lower()}): "
            f"requeue {again.number} instead, should it fail for good."
        )
    if trial.state == TrialState.FAIL:
        return
    ending = ending_of(trial)
    if trial.state == TrialState.PRUNED and ending and ending.is_infeasible:  # another machine may be able to
        return
    why = {
        TrialState.COMPLETE: f"is complete with value {trial.value}, and running it again would find the same",
        TrialState.PRUNED: f"ended as {ending and ending.words}, and running it again would find the same",
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
    requeue(study, trial)
    if study.user_attrs.get(EXHAUSTED):
        study.set_user_attr(EXHAUSTED, False)  # one point of the space is open again
    trials = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    again = Retries(trials).retry_of(trial)
    assert again is not None, "it was queued"
    return again.number
