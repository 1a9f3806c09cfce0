"""A study as it was when its trials were read: for those of Optuna's functions that read all trials time after time."""

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


def snapshot(study: Study, trials: Sequence[FrozenTrial]) -> Study:
    """The study, with these trials and no others. Nobody may change the trials that it gives away."""
    seen = copy.copy(study)
    seen._storage = _Read(study._storage, trials)  # type: ignore[assignment]
    return seen


class _Read:
    """A storage that has read its trials. They are never copied: of thousands, that took Optuna's figures a minute."""

    def __init__(self, storage: BaseStorage, trials: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._trials = list(trials)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]
