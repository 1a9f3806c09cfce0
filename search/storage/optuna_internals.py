"""What Optuna has no public way to do: every part of it whose name begins with an underscore is named here.

Besides, `search.storage.resilient.ResilientStorage` overrides private methods of Optuna's storage. A test names all of
them, so that a new Optuna breaks one place.
"""

import copy
import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.artifacts._protocol import ArtifactStore
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX
from optuna.samplers import _cmaes
from optuna.storages import BaseStorage, _cached_storage
from optuna.storages._rdb import models
from optuna.storages._rdb import storage as _rdb
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

__all__ = ["ARTIFACTS_ATTR_PREFIX", "ArtifactStore", "CachedStorage", "FrozenStudy", "models"]

MIGRATIONS: Final = Path(optuna.__file__).parent / "storages" / "_rdb" / "alembic"
"""Alembic's scripts of the tables."""
CachedStorage = _cached_storage._CachedStorage
"""What Optuna puts before a storage: it reads no finished trial twice. `search.storage.trial_cache` derives from it."""
session_of = _rdb._create_scoped_session
"""A session of a storage's `scoped_session`, which is committed when the block has ended well."""


def id_of(thing: optuna.Study | optuna.Trial | FrozenTrial) -> int:
    """The id by which the database knows a study or a trial."""
    return thing._study_id if isinstance(thing, optuna.Study) else thing._trial_id


def forget_failed_imports() -> None:
    """Let go of the frames in which Optuna looked for libraries that are not installed.

    It keeps each such exception, whose traceback would keep alive whatever the callers of the import have: a database
    with its connections, for as long as a notebook runs.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("optuna."):
            failed = getattr(vars(module).get("_imports"), "_deferred", None)
            if failed is not None:
                failed[0].__traceback__ = None


def uncached(storage: BaseStorage) -> BaseStorage:
    """The storage below Optuna's cache, which holds no running trial."""
    return getattr(storage, "_backend", storage)


def cache_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study, with the cache before it."""
    return study._storage


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study, below Optuna's cache."""
    return uncached(study._storage)


def system_attributes(study: optuna.Study) -> dict[str, Any]:
    """What Optuna, its dashboard and this program keep of a study where users do not look."""
    return study._storage.get_study_system_attrs(study._study_id)


def set_system_attribute(study: optuna.Study, key: str, value: Any) -> None:
    """Keep one of them."""
    study._storage.set_study_system_attr(study._study_id, key, value)


def was_stopped(study: optuna.Study) -> bool:
    """Whether a sampler ended the search, because there is nothing left that it could propose."""
    return study._stop_flag


def known_of(trial: optuna.Trial) -> FrozenTrial:
    """What this process knows of its own running trial, without asking the database."""
    return trial._cached_frozen_trial


def with_system_attributes(trial: FrozenTrial, attributes: Mapping[str, Any]) -> FrozenTrial:
    """A copy of the trial that has these and no others."""
    shown = copy.copy(trial)
    shown._system_attrs = dict(attributes)
    return shown


def constraint(name: str, value: float) -> dict[str, float]:
    """The system attribute that `Trial.set_constraint` sets, for whoever sets others as well."""
    return {f"{_CONSTRAINTS_KEY}:{name}": value}


class StorageProxy:
    """Passes all questions on to a storage; what derives from it answers some of them itself."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)


def seen_through(study: optuna.Study, proxy: Callable[[BaseStorage], StorageProxy]) -> optuna.Study:
    """The study as a proxy of its storage shows it."""
    view = copy.copy(study)
    view._storage = proxy(study._storage)  # type: ignore[assignment]
    return view


def seen_alone(study: optuna.Study, proxy: Callable[[BaseStorage], StorageProxy]) -> optuna.Study:
    """The same, which shares no trials that Optuna keeps for the time of one proposal with the study itself."""
    view = seen_through(study, proxy)
    view._thread_local = type(study._thread_local)()
    return view


@contextmanager
def without_version_manager() -> Iterator[None]:
    """Optuna's looks at the tables' version once more, and writes one where there is none.

    It would import Alembic for that: a third of a second of every command. Only the dashboard asks it anything.
    """
    _rdb._VersionManager = _LateVersionManager  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        _rdb._VersionManager = _VersionManager  # type: ignore[misc]


_VersionManager = _rdb._VersionManager


class _LateVersionManager:
    """Makes Optuna's when it is asked for something."""

    def __init__(self, *words: Any) -> None:
        self._words = words

    def check_table_schema_compatibility(self) -> None:
        """`search.storage.schema` did."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_VersionManager(*self._words), name)


def import_visualization() -> Any:
    """`optuna.visualization`, and what its importances need, imported now and not with the first figure.

    It would import with it, wherever they are installed, the figures of Matplotlib and the forests of scikit-learn by
    which Optuna estimated importances before its version 5: nobody here uses them, and they take longer than all else
    that a report needs.
    """
    hidden = [name for name in ("matplotlib", "sklearn") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # an import fails, which Optuna expects
    try:
        importlib.import_module("optuna.importance")
        return importlib.import_module("optuna.visualization")
    finally:
        for name in hidden:
            del sys.modules[name]


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
