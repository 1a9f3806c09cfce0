"""Every private part of Optuna that is used: one that a new version lacks is named here, and replaced in one module."""

import re
import sys
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import _protocol, _upload
from optuna.samplers import _cmaes
from optuna.storages import RDBStorage, _cached_storage
from optuna.storages._rdb import models
from optuna.storages._rdb import storage as rdb
from optuna.study import _constrained_optimization, _frozen
from optuna.trial import FrozenTrial

from search.storage import optuna_internals
from search.storage.optuna_internals import MIGRATIONS, constraint, uncached
from search.storage.resilient import ResilientStorage

ROOT = Path(optuna_internals.__file__).parents[2]
MODULE_PARTS = [
    (_protocol, "ArtifactStore"),
    (_upload, "ARTIFACTS_ATTR_PREFIX"),
    (_cmaes, "pickle"),
    (_frozen, "FrozenStudy"),
    (_constrained_optimization, "_CONSTRAINTS_KEY"),
    (rdb, "_create_scoped_session"),
    (rdb, "_VersionManager"),
    (models, "BaseModel"),
    (models, "NOT_FOUND_MSG"),
    (models, "SCHEMA_VERSION"),
    (models, "StudyModel"),
    (models, "TrialModel"),
    (models, "TrialHeartbeatModel"),
    (models, "TrialIntermediateValueModel"),
    (models, "TrialParamModel"),
    (models, "TrialSystemAttributeModel"),
    (models, "TrialUserAttributeModel"),
    (models, "TrialValueModel"),
]
OVERRIDDEN = [
    "_build_frozen_trial_from_trial_model",
    "_create_new_trial",
    "_get_best_trial_id",
    "_get_prepared_new_trial",
    "_get_stale_trial_ids",
    "_get_trials",
    "_set_trial_param",
]
"""Methods of Optuna's storage that `ResilientStorage` overrides, repeats or calls."""
_PRIVATE = re.compile(
    r"optuna\.(?:\w+\.)*_(?!_)\w+|from optuna\S* import _|(?:study|trial|storage|view|seen|shown)\._"
    r"(?:storage|study_id|trial_id|stop_flag|cached_frozen_trial|system_attrs|backend|thread_local)\b"
)


def test_failed_imports_hold_nothing_of_their_callers() -> None:
    noted = [
        module for name, module in sys.modules.items() if name.startswith("optuna.") and "_imports" in vars(module)
    ]
    failed = [found for module in noted if (found := module._imports._deferred) is not None]
    assert failed, "of the optional libraries all are installed"
    optuna_internals.forget_failed_imports()
    assert all(error.__traceback__ is None for error, _ in failed)


@pytest.mark.parametrize(("module", "name"), MODULE_PARTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_private_part_of_a_module_is_there(module: object, name: str) -> None:
    assert hasattr(module, name)


@pytest.mark.parametrize("name", ["_add_trials_to_cache", "_read_trials_from_remote_storage"])
def test_a_private_method_of_the_cache_is_there(name: str) -> None:
    assert callable(getattr(_cached_storage._CachedStorage, name))


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_a_private_method_of_the_storage_is_there(name: str) -> None:
    assert callable(getattr(RDBStorage, name))


def test_private_attributes_are_there(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'studies.db'}")
    assert isinstance(study._storage, _cached_storage._CachedStorage)
    assert isinstance(study._storage._backend, RDBStorage)
    assert uncached(study._storage) is study._storage._backend
    assert study._study_id == study._storage.get_study_id_from_name(study.study_name)
    assert study._stop_flag is False
    assert study._thread_local.cached_all_trials is None
    cache = study._storage
    assert (cache._trial_id_to_study_id_and_number, cache._lock.locked()) == ({}, False)
    assert cache._studies[study._study_id].trials == {}
    assert cache._studies[study._study_id].unfinished_trial_ids == set()
    trial = study.ask()
    assert trial._trial_id == trial._cached_frozen_trial._trial_id
    assert isinstance(trial._cached_frozen_trial, FrozenTrial)
    assert trial._cached_frozen_trial._system_attrs == trial._cached_frozen_trial.system_attrs
    trial.set_constraint("rise", 0.5)
    assert constraint("rise", 0.5) == trial._cached_frozen_trial.system_attrs
    assert (MIGRATIONS / "versions").is_dir()
    assert issubclass(ResilientStorage, RDBStorage)


def test_no_other_module_names_them() -> None:
    own = ROOT / "search" / "storage" / "optuna_internals.py"
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "search").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if path != own and _PRIVATE.search(line)
    }
    # A trial that was just created gets its own id.
    assert found == {"search/storage/resilient.py: trial.number, trial._trial_id = int(row.number), int(row.trial_id)"}
