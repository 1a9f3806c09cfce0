"""What is written down when a trial ends, in one transaction."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session

from search.resilient import ResilientStorage


def set_attributes(trial: optuna.Trial, *, user: Mapping[str, Any], system: Mapping[str, Any]) -> None:
    """Set several attributes of a running trial. Each alone would cost a transaction, and a flush of the disk.

    Raises:
        UpdateFinishedTrialError: The trial is not running any more.
    """
    storage = getattr(trial.storage, "_backend", trial.storage)  # below Optuna's cache, which holds no running trial
    assert isinstance(storage, ResilientStorage)
    kinds = ((models.TrialUserAttributeModel, user), (models.TrialSystemAttributeModel, system))

    def write() -> None:
        with _create_scoped_session(storage.scoped_session, True) as session:
            for model, attributes in kinds:
                for key, value in attributes.items():
                    storage._set_trial_attr_without_commit(session, model, trial._trial_id, key, value)

    storage.outages.call(write)
