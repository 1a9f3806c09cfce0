"""What Optuna has no public way to do: parts of it whose names begin with an underscore."""

import importlib
import io
import json
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import _cmaes
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from sqlalchemy.dialects import postgresql, sqlite

from search.storage.resilient import ResilientStorage


def import_visualization() -> Any:
    """`optuna.visualization`, and what its importances need, imported now and not with the first figure.

    It would import its other half with it, the figures of Matplotlib, wherever that is installed: nobody here uses
    them, and they take longer than all else that a report needs.
    """
    is_new = "matplotlib" not in sys.modules
    if is_new:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]  # an import of it fails; Optuna expects that
    try:
        importlib.import_module("optuna.importance._fanova")
        return importlib.import_module("optuna.visualization")
    finally:
        if is_new:
            del sys.modules["matplotlib"]


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


class _CmaState(pickle.Unpickler):
    """Reads the state of a CMA-ES optimizer, and no class or function but those that one is made of."""

    _ALLOWED = frozenset(
        {
            ("cmaes._cma", "CMA"),
            ("cmaes._sepcma", "SepCMA"),
            ("cmaes._cmawm", "CMAwM"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "scalar"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a pickle names.

        Raises:
            UnpicklingError: It is none that an optimizer is made of.
        """
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a CMA-ES optimizer")
        return super().find_class(module, name)


class _SafePickle:
    """Stands where Optuna's CMA-ES sampler has the module `pickle`: it keeps its state in the database, pickled."""

    dumps = staticmethod(pickle.dumps)

    @staticmethod
    def loads(data: bytes) -> Any:
        """The optimizer that the bytes hold."""
        return _CmaState(io.BytesIO(data)).load()


# Whoever may write to the database would otherwise run code here.
vars(_cmaes)["pickle"] = _SafePickle
