"""Optuna's storage, whose calls outlive a restart, a crash or a lost connection of the database.

Every call is repeated while there is an outage. Most can be: they set what they set before. The others:

* a trial is created with a start time of its own; a second attempt looks whether the first one left it there;
* a trial that is found finished as we wanted it was finished by our first attempt;
* a waiting trial that the first attempt took stands as running without a worker: it is reclaimed like any other.

SQLite gives the id of a trial that was deleted with its study to the next trial of any study: what a worker writes into
its own trial (`hold`) must not reach that one.

Whoever may write to the database may have written anything, so what is read is checked (`search.storage.rows.reading`).
"""

import copy
import json
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from search.machine.standard_streams import printable
from search.storage.attributes import REASON, damaged
from search.storage.optuna_internals import (
    FrozenStudy,
    id_of,
    known_of,
    models,
    session_of,
    uncached,
    without_version_manager,
)
from search.storage.outages import Outages, StorageLost, StorageRefused
from search.storage.rows.checks import trial_problems
from search.storage.rows.heartbeats import end_unreadable_leases
from search.storage.rows.reading import READING, all_studies, is_of_a_row, readable, study_names
from search.storage.rows.trials import read_trials, without_collection

P = ParamSpec("P")
T = TypeVar("T")
_N_LATEST = 100
"""More than a fleet creates during an outage."""
_REPEATABLE = (
    *(name for name in READING if name != "_get_trials"),  # which reads in a way of its own
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "_set_trial_param",
    "get_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial_id_from_study_id_trial_number",
    "_get_best_trial_id",
)


class ResilientStorage(RDBStorage):
    """An RDBStorage that waits for its database; `outages` says how long. Opening it waits for nothing.

    `search.storage.schema` has looked at the tables, or made them.
    """

    def __init__(self, url: str, *, outages: Outages, **arguments: Any) -> None:
        self.outages = outages
        self._began: dict[int, datetime | None] = {}  # trials that are held
        # Optuna fills a template in.
        try:
            with without_version_manager():
                super().__init__(url.replace("{", "{{").replace("}", "}}"), skip_table_creation=True, **arguments)
        except BaseException:
            if "engine" in vars(self):
                self.engine.dispose()
            raise
        weakref.finalize(self, self.engine.dispose)
        # A pool replaces a dead connection without a word.
        event.listen(self.engine, "invalidate", lambda *_: outages.lost_connection())

    def get_all_studies(self) -> list[FrozenStudy]:
        """As Optuna's, without those whose attributes cannot be read: one would hide all others."""
        return self.outages.call(lambda: all_studies(self))

    def study_names(self) -> list[str]:
        """The names of all studies, in order."""
        return self.outages.call(lambda: study_names(self))

    def _build_frozen_trial_from_trial_model(self, trial: models.TrialModel) -> FrozenTrial:
        """A trial that is read by itself.

        Raises:
            DamagedRow: Its rows do not hold what they should.
            KeyError: It was held, and is another's now.
        """
        self._check_held(trial)
        return _checked(super()._build_frozen_trial_from_trial_model(trial), lambda: str(trial.study.study_name))

    def hold(self, trial: optuna.Trial) -> None:
        """From now on the id of this trial stands for it alone: once another trial has it, there is none (KeyError)."""
        self._began[id_of(trial)] = known_of(trial).datetime_start

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        """As Optuna's, which asks before all that it writes into a trial, with that trial's row at hand.

        Raises:
            UpdateFinishedTrialError: The trial is not running any more.
            KeyError: It was held, and is another's now.
        """
        row = self.scoped_session().get(models.TrialModel, trial_id)
        if row is not None:
            self._check_held(row)
        super().check_trial_is_updatable(trial_id, trial_state)

    def _check_held(self, row: models.TrialModel) -> None:
        number: Any = row.trial_id
        if self._began.get(number, row.datetime_start) != row.datetime_start:
            raise KeyError(models.NOT_FOUND_MSG)  # as if nobody had its id

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        trial = _stamped(template_trial)
        n_attempts = 0

        def create() -> FrozenTrial:
            nonlocal n_attempts
            n_attempts += 1
            with session_of(self.scoped_session) as session:
                # Locked, because the next number is counted, and because an attempt before may still be committing.
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                found: Any = None
                if n_attempts > 1:
                    rows = session.query(models.TrialModel).filter_by(study_id=study_id)
                    latest = rows.order_by(models.TrialModel.trial_id.desc()).limit(_N_LATEST)
                    found = next((row for row in latest if row.datetime_start == trial.datetime_start), None)
                row = found or self._get_prepared_new_trial(study_id, trial, session)
                trial.number, trial._trial_id = int(row.number), int(row.trial_id)
            return trial

        return self.outages.call(create)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        def read() -> list[FrozenTrial]:
            with session_of(self.scoped_session) as session, without_collection():
                return read_trials(session, study_id, states, included_trial_ids, trial_id_greater_than)

        found = self.outages.call(lambda: readable(self, "_get_trials", study_id, read))
        with without_collection():
            return [_checked(trial, lambda: self.get_study_name_from_id(study_id)) for trial in found]

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As Optuna's; true as well for a trial that an attempt before finished with the same values."""
        n_attempts = 0

        def set_values() -> bool:
            nonlocal n_attempts
            n_attempts += 1
            try:
                return super(ResilientStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if n_attempts > 1:
                    found = RDBStorage.get_trial(self, trial_id)
                    if found.state == state and (values is None or found.values == list(values)):
                        return True
                raise

        return self.outages.call(set_values)

    def record_heartbeat(self, trial_id: int) -> None:
        """As Optuna's, but it never fails: a thread that beats would end. What is wrong, other calls will tell."""
        try:
            self.outages.call(lambda: self._beating(lambda: super(ResilientStorage, self).record_heartbeat(trial_id)))
        except (StorageLost, StorageRefused):
            return

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        def ask() -> list[int]:
            return self._beating(lambda: super(ResilientStorage, self)._get_stale_trial_ids(study_id))

        stale = self.outages.call(ask)
        # Asked only now, because the question itself may have waited for the database.
        return stale if self.outages.is_settled() else []

    def _beating(self, call: Callable[[], T]) -> T:
        """What the call returns, which reads heartbeats; those that cannot be read are long ago then."""
        try:
            return call()
        except Exception as error:
            if not is_of_a_row(error):
                raise
        end_unreadable_leases(self.engine)
        return call()


def set_attributes(
    trial: optuna.Trial,
    *,
    user: Mapping[str, Any],
    system: Mapping[str, Any],
    values: Mapping[int, float] = MappingProxyType({}),
) -> None:
    """Set several attributes of a running trial, and report values by step, in one transaction, for the price of one.

    Raises:
        UpdateFinishedTrialError: The trial is not running any more.
    """
    storage = uncached(trial.storage)
    assert isinstance(storage, ResilientStorage)
    insert: Any = postgresql.insert if storage.engine.name == "postgresql" else sqlite.insert
    statements = []
    for model, attributes in ((models.TrialUserAttributeModel, user), (models.TrialSystemAttributeModel, system)):
        if attributes:
            rows = [
                {"trial_id": id_of(trial), "key": key, "value_json": json.dumps(value)}
                for key, value in attributes.items()
            ]
            statement = insert(model).values(rows)
            new = {"value_json": statement.excluded.value_json}
            statements.append(statement.on_conflict_do_update(index_elements=[model.trial_id, model.key], set_=new))

    if values:
        statement = insert(models.TrialIntermediateValueModel).values([_report(trial, *one) for one in values.items()])
        new = {name: statement.excluded[name] for name in ("intermediate_value", "intermediate_value_type")}
        statements.append(statement.on_conflict_do_update(index_elements=["trial_id", "step"], set_=new))

    def write() -> None:
        with session_of(storage.scoped_session) as session:
            row: Any = models.TrialModel.find_or_raise_by_id(id_of(trial), session)
            storage.check_trial_is_updatable(id_of(trial), row.state)
            for statement in statements:
                session.execute(statement)

    storage.outages.call(write)


def _report(trial: optuna.Trial, step: int, value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"trial_id": id_of(trial), "step": step, "intermediate_value": stored, "intermediate_value_type": kind}


def _checked(trial: FrozenTrial, study_name: Callable[[], str]) -> FrozenTrial:
    """The trial, after a look at its rows.

    Raises:
        DamagedRow: They do not hold what they should.
    """
    for problem in trial_problems(trial):
        raise damaged(study_name(), problem, "without a number" if trial.number is None else trial.number)
    if REASON in trial.user_attrs:
        trial.user_attrs[REASON] = printable(trial.user_attrs[REASON])  # an exception's words are shown as they are
    return trial


def _stamped(template: FrozenTrial | None) -> FrozenTrial:
    """A trial to be created, with a start time: to the microsecond, it tells this trial from the study's others."""
    trial = create_trial(state=TrialState.RUNNING) if template is None else copy.deepcopy(template)
    trial.datetime_start = trial.datetime_start or datetime.now()
    return trial


def _repeated(method: Callable[P, T]) -> Callable[P, T]:
    name = method.__name__

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        storage: Any = args[0]
        outages: Outages = storage.outages
        if name not in READING:
            return outages.call(lambda: method(*args, **kwargs))
        number: Any = args[1] if len(args) > 1 else next(iter(kwargs.values()))
        return outages.call(lambda: readable(storage, name, number, lambda: method(*args, **kwargs)))

    return call


for _name in _REPEATABLE:
    setattr(ResilientStorage, _name, _repeated(getattr(RDBStorage, _name)))
