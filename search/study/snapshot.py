"""A study as it was when its trials were read: for all that reads trials and attributes time after time."""

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


def snapshot(study: Study, trials: Sequence[FrozenTrial]) -> Study:
    """The study, with these trials and no others, and its own attributes as they are now.

    Nobody may change what it gives away.
    """
    seen = copy.copy(study)
    seen._storage = _Read(study._storage, trials)  # type: ignore[assignment]
    return seen


class _Read:
    """A storage that has read its study. Trials are never copied: of thousands, that took Optuna's figures a minute."""

    def __init__(self, storage: BaseStorage, trials: Sequence[FrozenTrial]) -> None:
        self._storage = storage
        self._trials = list(trials)
        self._user_attrs: dict[int, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        if study_id not in self._user_attrs:
            self._user_attrs[study_id] = self._storage.get_study_user_attrs(study_id)
        return self._user_attrs[study_id]
