"""Optuna's cache of a study's trials, at a cost of a reading that does not grow with their number.

Optuna sorts all trials whenever they are asked for, and asks the database for the best one; with 10,000 of them a trial
of a search would wait for that several times.
"""

import copy
from bisect import insort
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from optuna import Study
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from search.storage.optuna_internals import CachedStorage, StorageProxy, cache_of, id_of


@dataclass
class _Ordered:
    """Trials in the order of their numbers, where each of them stands, and the best complete one.

    Of two trials of one number, which only somebody's own hand can make, the later one read is seen alone.
    """

    trials: list[FrozenTrial] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=dict)
    best: FrozenTrial | None = None
    shared: set[int] = field(default_factory=set)

    def put(self, trial: FrozenTrial) -> None:
        if trial.number in self.place:
            place = self.place[trial.number]
            if id_of(self.trials[place]) != id_of(trial):
                self.shared.add(trial.number)
            self.trials[place] = trial
        else:
            insort(self.trials, trial, key=_number)
            if self.trials[-1] is trial:
                self.place[trial.number] = len(self.trials) - 1
            else:  # another process began it before one that was read first
                self.place = {other.number: place for place, other in enumerate(self.trials)}
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            before = self.best
            if before is None or before.value is None or (trial.value, -trial.number) > (before.value, -before.number):
                self.best = trial


class TrialCache(CachedStorage):
    """Keeps the trials of each study in order as they are read. Values are maximised, as all of ours are."""

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._ordered: dict[int, _Ordered] = {}
        self._made: FrozenTrial | None = None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's, which then asks the database at once what it has just written."""
        number = super().create_new_trial(study_id, template_trial)
        self._made = None
        if template_trial is None:  # it runs, and is ours: one that waits may be another's by then
            made = next(one for one in reversed(self._ordered[study_id].trials) if id_of(one) == number)
            self._made = copy.deepcopy(made)
        return number

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's; of a trial that was just made here, the first time, what was made."""
        made, self._made = self._made, None
        return made if made is not None and id_of(made) == trial_id else super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        if deepcopy:
            return super().get_all_trials(study_id, deepcopy, states)
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            ordered = self._ordered.get(study_id)
            if ordered is None:
                return []
            if states is None:
                return list(ordered.trials)
            if any(state in states for state in _FINISHED):
                return [trial for trial in ordered.trials if trial.state in states]
            study = self._studies[study_id]
            numbers = sorted(self._trial_id_to_study_id_and_number[one][1] for one in study.unfinished_trial_ids)
            return [trial for number in numbers if (trial := study.trials[number]).state in states]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """As Optuna's; the earliest among equals.

        Raises:
            ValueError: No trial is complete.
        """
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            best = self._ordered[study_id].best if study_id in self._ordered else None
        if best is None:
            raise ValueError("No trials are completed yet.")
        return best

    def shared_numbers(self, study_id: int) -> list[int]:
        """Those that several trials have, as far as they were read."""
        with self._lock:
            return sorted(self._ordered[study_id].shared) if study_id in self._ordered else []

    def delete_study(self, study_id: int) -> None:
        """As Optuna's."""
        super().delete_study(study_id)
        self._ordered.pop(study_id, None)

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        super()._add_trials_to_cache(study_id, trials)
        ordered = self._ordered.setdefault(study_id, _Ordered())
        for trial in trials:
            ordered.put(trial)


def shared_numbers(study: Study) -> list[int]:
    """The numbers that several of the study's trials have, as far as its trials were read."""
    storage = cache_of(study)
    return storage.shared_numbers(id_of(study)) if isinstance(storage, TrialCache) else []


class WithTrials(StorageProxy):
    """A storage whose study has these trials and no others. None is copied: nobody may change what it gives away."""

    def __init__(self, storage: BaseStorage, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(storage)
        self._trials = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        return [trial for trial in self._trials if states is None or trial.state in states]


_FINISHED = tuple(state for state in TrialState if state.is_finished())


def _number(trial: FrozenTrial) -> int:
    return trial.number
