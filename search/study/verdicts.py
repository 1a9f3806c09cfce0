"""Whether a trial is pruned, decided as if no trial had ever been interrupted.

A trial that is run again has another number, by which Hyperband would put it into another bracket; and what was
noted of the trial that it repeats would compete with it, as if there had been two of them.
"""

import copy
from collections.abc import Container
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RETRY_OF
from search.storage.optuna_internals import StorageProxy, known_of, seen_through
from search.study.endings import Retries


def should_prune(trial: optuna.Trial) -> bool:
    """What the study's pruner says after the trial's latest report."""
    study = trial.study
    # As the database has it, since this process alone writes it: to read it again would cost as much as the verdict.
    known = known_of(trial)
    latest = copy.copy(known)
    view = seen_through(study, lambda storage: _Uninterrupted(storage, known))
    if RETRY_OF in latest.user_attrs:
        latest = _numbered(latest, Retries(study.get_trials(deepcopy=False)))
    return study.pruner.prune(view, latest)


class _Uninterrupted(StorageProxy):
    """Storage proxy that hides retried trials and gives each retry the original trial's number.

    What a pruner notes of the trial that it judges is added to `known`, what this process knows of it.
    """

    def __init__(self, storage: optuna.storages.BaseStorage, known: FrozenTrial) -> None:
        super().__init__(storage)
        self._known = known

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.storage.set_trial_system_attr(trial_id, key, value)
        self._known.system_attrs = {**self._known.system_attrs, key: value}  # another dict: others may hold the old one

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self.storage.get_all_trials(study_id, deepcopy=deepcopy)
        retries = Retries(trials)
        return [
            _numbered(trial, retries) if RETRY_OF in trial.user_attrs else trial
            for trial in trials
            if retries.retry_of(trial) is None and (states is None or trial.state in states)
        ]


def _numbered(trial: FrozenTrial, retries: Retries) -> FrozenTrial:
    """The trial with the number of the first one whose parameters it runs again."""
    *_, first = retries.chain(trial)
    numbered = copy.copy(trial)
    numbered.number = first.number
    return numbered
