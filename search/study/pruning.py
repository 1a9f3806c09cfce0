"""Whether a trial is pruned: as if it had one fold, and as if no trial had ever been interrupted.

A trial that is run again has another number, by which Hyperband would put it into another bracket; and what was noted
of the trial that it repeats would compete with it, as if there had been two of them. `should_prune` hides that.

Of runs with several folds a value is compared with others of the same fold and epoch, and with no others.

A trial's reports have one step for each epoch of each fold (`step_of`). No pruner of Optuna knows of folds, so each of
the two that `FoldPruner` asks is shown a study without them:

* one judges the first fold, epoch by epoch. It sees the reports of that fold alone, at the steps 1 to the number of
  epochs: a rung of Hyperband is a number of epochs, and its `max_resource` those of one fold. In later folds it is not
  asked: only its own survivors would be left to compete, and each fold would halve them anew;
* one judges the folds. Its steps are their numbers, and the value at a step is that of the fold's last epoch that
  could be ranked. It is asked once for each fold that is over, and sees no fold that is not.
"""

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RETRY_OF
from search.storage.optuna_internals import StorageProxy, known_of, seen_through, with_system_attributes
from search.study.endings import Retries
from search.study.trials.window import WINDOW

_RUNG = "completed_rung_"  # Optuna's successive halving notes with a trial what it was compared by
_FOLDS_RUNG = "folds:completed_rung_"

Show = Callable[[FrozenTrial], FrozenTrial]


def step_of(fold: int, epoch: int, epochs_per_fold: int) -> int:
    """The step at which the validation after an epoch (from 0) is reported.

    `epochs_per_fold` is the most epochs of any trial of the study, so that a step is the same fold and epoch in all.
    """
    return fold * epochs_per_fold + epoch + 1


def fold_and_epoch(step: int, epochs_per_fold: int) -> tuple[int, int]:
    """What `step_of` was told."""
    return divmod(step - 1, epochs_per_fold)


class FoldPruner(BasePruner):
    """Two pruners, one for the epochs of the first fold and one for the folds.

    Args:
        epochs: Judges the first fold, epoch by epoch.
        folds: Judges the folds that are over; None judges none. Optuna's `WilcoxonPruner` fits: it compares the same
            folds of two trials.

    Attributes:
        epochs_per_fold: As `step_of` has it; to be set before the first question.
    """

    def __init__(self, epochs: BasePruner, folds: BasePruner | None = None) -> None:
        self.epochs = epochs
        self.folds = folds
        self.epochs_per_fold = 1

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to be pruned after its latest report."""
        if trial.last_step is None:
            return False
        if trial.last_step <= self.epochs_per_fold and self.epochs.prune(
            _view(study, self._first_fold, _RUNG), self._first_fold(trial)
        ):
            return True
        if self.folds is None or not self._is_fold_over(trial, trial.last_step):
            return False
        return self.folds.prune(_view(study, self._folds_over, _FOLDS_RUNG), self._folds_over(trial))

    def _is_fold_over(self, trial: FrozenTrial, step: int) -> bool:
        """Whether the latest report is the first to tell that a fold is over: its last epoch, or the next fold's."""
        fold, epoch = fold_and_epoch(step, self.epochs_per_fold)
        if epoch + 1 == self.epochs_per_fold:
            return True
        start = step_of(fold, 0, self.epochs_per_fold)
        is_first = not any(start <= other < step for other in trial.intermediate_values)
        return fold > 0 and is_first and start - 1 not in trial.intermediate_values

    def _first_fold(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial as if it had one fold."""
        if trial.last_step is None or trial.last_step <= self.epochs_per_fold:
            return trial
        shown = copy.copy(trial)
        shown.intermediate_values = {
            step: value for step, value in trial.intermediate_values.items() if step <= self.epochs_per_fold
        }
        return shown

    def _folds_over(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with one value for each fold that is over, at the fold's number."""
        values: dict[int, float] = {}
        for step, value in sorted(trial.intermediate_values.items()):
            fold, _ = fold_and_epoch(step, self.epochs_per_fold)
            values[fold] = value
        if trial.state != TrialState.COMPLETE and trial.last_step is not None:
            fold, epoch = fold_and_epoch(trial.last_step, self.epochs_per_fold)
            if epoch + 1 < self.epochs_per_fold:
                del values[fold]
        # What the other pruner noted is about epochs.
        notes = {key: value for key, value in trial.system_attrs.items() if not key.startswith(_RUNG)}
        for key in [key for key in notes if key.startswith(_FOLDS_RUNG)]:
            notes[_RUNG + key.removeprefix(_FOLDS_RUNG)] = notes.pop(key)
        shown = with_system_attributes(trial, notes)
        shown.intermediate_values = values
        return shown


def judges_epochs(pruner: BasePruner) -> bool:
    """Whether a trial may be pruned after an epoch of its first fold."""
    return not isinstance(pruner.epochs if isinstance(pruner, FoldPruner) else pruner, NopPruner)


def _view(study: optuna.Study, show: Show, rung: str) -> optuna.Study:
    """The study with its trials as `show` makes them, and what is noted of rungs under names of its own."""
    return seen_through(study, lambda storage: _Shown(storage, show, rung))


class _Shown(StorageProxy):
    """A storage that gives trials away as `show` makes them."""

    def __init__(self, storage: optuna.storages.BaseStorage, show: Show, rung: str) -> None:
        super().__init__(storage)
        self._show = show
        self._rung = rung

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [self._show(trial) for trial in self.storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if key.startswith(_RUNG):
            key = self._rung + key.removeprefix(_RUNG)
        self.storage.set_trial_system_attr(trial_id, key, value)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._show(self.storage.get_best_trial(study_id))


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

    Of a long study it shows the latest trials (`search.study.trials.window`), who fill a rung well enough.

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
        latest = trials[-WINDOW:]
        repeats = any(RETRY_OF in trial.user_attrs for trial in latest)
        retries = Retries(trials if repeats else ())  # what one of them repeats may be older than they
        return [
            _numbered(trial, retries) if RETRY_OF in trial.user_attrs else trial
            for trial in latest
            if retries.retry_of(trial) is None and (states is None or trial.state in states)
        ]


def _numbered(trial: FrozenTrial, retries: Retries) -> FrozenTrial:
    """The trial with the number of the first one whose parameters it runs again."""
    *_, first = retries.chain(trial)
    numbered = copy.copy(trial)
    numbered.number = first.number
    return numbered
