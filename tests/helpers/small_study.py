"""A study made by hand in a real database: each trial ends as it is told to."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.storage.attributes import MANIFEST, N_TARGET
from search.storage.database import Database, open_database
from search.study.study import DIRECTION
from search.training.result import Result

NAME = "by-hand"
ABOUT = {
    "task": "synthetic_two_vs_rest",
    "model": "ridge",
    "data": "synthetic landscape",
    "data_hash": "d",
    "space_hash": "s",
    "config_hash": "c",
    "validation": {"_target_": "datasets.validation.Holdout"},
    "sampler": {"_target_": "optuna.samplers.TPESampler"},
    "pruner": {"_target_": "optuna.pruners.NopPruner"},
    "space": {"model.alpha": {"type": "float", "low": 1e-3, "high": 1e3, "log": True}},
    "config": {"trainer.max_epochs": 10},
    "epochs_per_fold": 10,
}


def default_database(folder: Path) -> str:
    """The URL of the database that commands in `folder` take without --storage."""
    return f"sqlite:///{folder / 'runs' / 'studies.db'}"


def make_study(url: str, *, n_target: int = 10) -> tuple[Database, optuna.Study]:
    """A study without trials that flipsearch takes for its own."""
    database = open_database(url, create=True)
    study = optuna.create_study(storage=database.storage, study_name=NAME, direction=DIRECTION)
    study.set_user_attr(MANIFEST, ABOUT)
    study.set_user_attr(N_TARGET, n_target)
    return database, study


def add(
    study: optuna.Study,
    state: TrialState,
    *,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
    intermediate: Mapping[int, float] | None = None,
) -> int:
    """Add a trial and return its number."""
    study.add_trial(
        create_trial(
            state=state,
            value=value,
            params={"model.alpha": 0.5},
            distributions={"model.alpha": FloatDistribution(1e-3, 1e3, log=True)},
            user_attrs=dict(attributes or {}),
            intermediate_values=dict(intermediate or {}),
        )
    )
    return study.get_trials(deepcopy=False)[-1].number


def record(
    values: Sequence[Sequence[float | None]], *, value: float | None = None, device: str = "cpu", **other: Any
) -> dict[str, Any]:
    """The result of a run as a trial holds it; `values` are those of each fold's epochs."""
    result = Result(
        ending="complete",
        reason="",
        value=value,
        values=tuple(map(tuple, values)),
        best_epochs=(0,) * len(values),
        checkpoints=(),
        n_parameters=1234,
        seconds=2.0,
        peak_memory_bytes=0,
        threads=2,
        device=device,
        micro_batch_tokens=None,
        backbone=None,
        n_embedded=0,
    )
    restored: dict[str, Any] = json.loads(json.dumps({**result.record(), **other}))
    return restored
