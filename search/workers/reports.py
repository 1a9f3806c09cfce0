"""A trial's reports to the database: one by one where a pruner or people look at each, else together."""

import time
from collections.abc import Mapping

import optuna

from search.storage.optuna_internals import known_of
from search.storage.resilient import set_attributes
from search.study.pruning import FoldPruner, judges_epochs

_MAX_AGE_S = 1.0  # so that who looks on sees how a long trial goes


class TrialReports:
    """What a trial has to report.

    Args:
        trial: The trial.
        is_exact: Whether its model is solved at once, so that its values come within moments of each other. People see
            a trial that learns by each epoch's.
    """

    def __init__(self, trial: optuna.Trial, *, is_exact: bool) -> None:
        pruner = trial.study.pruner
        judges_folds = isinstance(pruner, FoldPruner) and pruner.folds is not None
        self._may_wait = is_exact and not (judges_epochs(pruner) or judges_folds)
        self._trial = trial
        self._waiting: dict[int, float] = {}
        self._due = 0.0

    def add(self, step: int, value: float) -> None:
        """Report a value: now, or with those that follow soon."""
        if not self._may_wait:
            self._trial.report(value, step=step)
            return
        self._due = self._due if self._waiting else time.monotonic() + _MAX_AGE_S
        self._waiting[step] = value

    def write_old(self) -> None:
        """Write those that have waited for a second."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write those that wait."""
        if self._waiting:
            set_attributes(self._trial, user={}, system={}, values=self.take())

    def take(self) -> Mapping[int, float]:
        """Those that wait, for whoever writes them together with something else."""
        waiting, self._waiting = self._waiting, {}
        known_of(self._trial).intermediate_values.update(waiting)
        return waiting
