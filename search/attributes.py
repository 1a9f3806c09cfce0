"""What is written down about a trial at once."""

import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from sqlalchemy.dialects import postgresql, sqlite

from search.resilient import ResilientStorage


def set_attributes(trial: optuna.Trial, *, user: Mapping[str, Any], system: Mapping[str, Any]) -> None:
    """Set several attributes of a running trial in one transaction, for about the price of one.

    Raises:
        UpdateFinishedTrialError: The trial is not running any more.
    """
    storage = getattr(trial.storage, "_backend", trial.storage)  # below Optuna's cache, which holds no running trial
    assert isinstance(storage, ResilientStorage)
    insert: Any = postgresql.insert if storage.engine.name == "postgresql" else sqlite.insert
    statements = []
    for model, attributes in ((models.TrialUserAttributeModel, user), (models.TrialSystemAttributeModel, system)):
        if attributes:
            rows = [
                {"trial_id": trial._trial_id, "key": key, "value_json": json.dumps(value)}
                for key, value in attributes.items()
            ]
            statement = insert(model).values(rows)
            new = {"value_json": statement.excluded.value_json}
            statements.append(statement.on_conflict_do_update(index_elements=[model.trial_id, model.key], set_=new))

    def write() -> None:
        with _create_scoped_session(storage.scoped_session) as session:
            state: Any = models.TrialModel.find_or_raise_by_id(trial._trial_id, session).state
            storage.check_trial_is_updatable(trial._trial_id, state)
            for statement in statements:
                session.execute(statement)

    storage.outages.call(write)
