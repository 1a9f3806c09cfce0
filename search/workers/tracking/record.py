"""What is told of a trial that has ended, whichever program keeps it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.config.nested import Scalar
from search.space.space import Space
from search.storage.attributes import RESULT
from search.study.endings import ending_of
from search.study.pruning import fold_and_epoch

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial of a study.

    No text of it comes from an error, a path or the environment, so that no secret is among them.

    Args:
        study, task, model: What it is a trial of.
        number: The trial's.
        state: `complete`, `pruned` or `failed`.
        ending: Why it has that state, see `search.storage.ending`.
        params: The searched values by path.
        values: (step, fold, epoch, Spearman) of each validation; steps count from 1, folds and epochs from 0.
        value: That of a complete trial; None of others.
        n_parameters: Of a trial with a result.
        began, ended: When, in the local time of its machine.
    """

    study: str
    task: str
    model: str
    number: int
    state: str
    ending: str
    params: Mapping[str, Scalar]
    values: tuple[tuple[int, int, int, float], ...]
    value: float | None
    n_parameters: int | None
    began: datetime.datetime
    ended: datetime.datetime

    @property
    def name(self) -> str:
        """`gb1_two_vs_rest-cnn trial 3`."""
        return f"{self.study} trial {self.number}"

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began).total_seconds()


def record_of(trial: FrozenTrial, *, study: str, about: Mapping[str, Any], epochs_per_fold: int) -> TrialRecord:
    """The record of a trial that has ended; `about` is its study's manifest."""
    ended = trial.datetime_complete or datetime.datetime.now()
    ending = ending_of(trial)
    return TrialRecord(
        study=study,
        task=str(about.get("task")),
        model=str(about.get("model")),
        number=trial.number,
        state=_STATES[trial.state],
        ending="lost" if ending is None else ending.value,
        params=Space.values(trial.params),
        values=tuple(
            (step, *fold_and_epoch(step, epochs_per_fold), value)
            for step, value in sorted(trial.intermediate_values.items())
        ),
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        n_parameters=trial.user_attrs.get(RESULT, {}).get("n_parameters"),
        began=trial.datetime_start or ended,
        ended=ended,
    )
