"""The trials of a study as Optuna's storage reads them, several times as fast.

Optuna has SQLAlchemy make an object of each row of six tables. With 3,000 trials that took most of the time of every
command; here rows stay tuples, and a distribution that many trials share is parsed once.
"""

import contextlib
import datetime
import gc
import json
from collections.abc import Collection, Container, Iterator, Mapping
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, or_, select
from sqlalchemy.orm import Session

from search.storage.optuna_internals import models

_MOST_NAMED = 500  # ids in one statement


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Python looks for no garbage in this block: among thousands of trials, all of which stay, that took a quarter of
    the time of reading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_trials(
    session: Session, study_id: int, states: Container[TrialState] | None, unfinished: Collection[int], newer_than: int
) -> list[FrozenTrial]:
    """The trials with the ids `unfinished`, and those with an id above `newer_than`, in the order of their ids.

    Raises:
        KeyError: There is no such study.
    """
    connection, trial = session.connection(), _TRIALS.c
    query = select(trial.trial_id, trial.number, trial.state, trial.datetime_start, trial.datetime_complete)
    query = query.where(trial.study_id == study_id).order_by(trial.trial_id)
    known = {number for number in unfinished if number <= newer_than}
    if len(known) <= _MOST_NAMED:
        query = query.where(or_(trial.trial_id.in_(known), trial.trial_id > newer_than))
    found = [
        row
        for row in connection.execute(query)
        if (row.trial_id > newer_than or row.trial_id in known) and (states is None or row.state in states)
    ]
    if not found:  # so this is the only question, as it is most of the time: there may be no such study
        models.StudyModel.find_or_raise_by_id(study_id, session)
        return []
    ids = [row.trial_id for row in found]
    parts = []
    for table, columns in _PARTS:
        rows: dict[int, list[tuple[Any, ...]]] = {number: [] for number in ids}
        for part in _rows(connection, study_id, ids, table, columns):
            if part[0] in rows:
                rows[part[0]].append(part)
        parts.append(rows)
    # By far the most rows: none is kept.
    reports: dict[int, dict[int, float]] = {number: {} for number in ids}
    for number, step, value, kind in _rows(connection, study_id, ids, *_REPORTS):
        if number in reports:
            reports[number][step] = _reported(value, kind)
    return [_trial(row, reports[row.trial_id], *(rows[row.trial_id] for rows in parts)) for row in found]


_TRIALS: Any = models.TrialModel.__table__
_ATTRIBUTE = ("key", "value_json")
_PARTS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (models.TrialValueModel.__table__, ("objective", "value", "value_type")),
    (models.TrialParamModel.__table__, ("param_id", "param_name", "param_value", "distribution_json")),
    (models.TrialUserAttributeModel.__table__, _ATTRIBUTE),
    (models.TrialSystemAttributeModel.__table__, _ATTRIBUTE),
)
_REPORTS: tuple[Any, tuple[str, ...]] = (
    models.TrialIntermediateValueModel.__table__,
    ("step", "intermediate_value", "intermediate_value_type"),
)


def _rows(connection: Connection, study_id: int, ids: list[int], table: Any, columns: tuple[str, ...]) -> Iterator[Any]:
    """Rows of a table, (trial id, *columns); those of trials that are not in `ids` may be among them."""
    query = select(table.c.trial_id, *(table.c[column] for column in columns))
    if len(ids) <= _MOST_NAMED:
        query = query.where(table.c.trial_id.in_(ids))
    else:
        query = query.join(_TRIALS, _TRIALS.c.trial_id == table.c.trial_id)
        query = query.where(_TRIALS.c.study_id == study_id, _TRIALS.c.trial_id >= ids[0])
    result: Any = connection.execute(query)
    # From the driver itself: SQLAlchemy would make an object of each row, for a third of the time that reading takes.
    yield from result.cursor
    result.close()


def _trial(
    row: Any, reports: dict[int, float], values: list[Any], params: list[Any], user: list[Any], system: list[Any]
) -> FrozenTrial:
    params.sort()  # in the order in which they were sampled
    distributions = {name: _distribution(text) for _, _, name, _, text in params}
    by_objective = {i: _value(value, kind) for _, i, value, kind in values}
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[by_objective[i] for i in range(len(by_objective))] or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={name: distributions[name].to_external_repr(value) for _, _, name, value, _ in params},
        distributions=distributions,
        user_attrs={key: json.loads(text) for _, key, text in user},
        system_attrs={key: json.loads(text) for _, key, text in system},
        intermediate_values=reports,
        trial_id=row.trial_id,
    )


def _value(value: float | None, kind: str) -> float:
    """A value of a trial, which may be infinite; `kind` is as the driver gives it, the name of an Optuna's enum."""
    model = models.TrialValueModel
    return model.stored_repr_to_value(value, model.TrialValueType[kind])


def _reported(value: float | None, kind: str) -> float:
    """What a trial reported, which may be NaN besides."""
    if kind == "FINITE" and value is not None:
        return value
    model = models.TrialIntermediateValueModel
    return model.stored_repr_to_intermediate_value(value, model.TrialIntermediateValueType[kind])


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    """Distributions are values: nobody changes one."""
    return json_to_distribution(text)


def _local(utc: datetime.datetime | None) -> datetime.datetime | None:
    """A naive time of the database as Optuna shows it: a naive local one."""
    return utc and utc.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def is_date(value: object) -> bool:
    """Whether a column with this value can be read as the time of a trial, or as none."""
    try:
        found = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        return found is None or (isinstance(found, datetime.datetime) and _local(found) is not None)
    except (ValueError, OverflowError, OSError):  # of years that the clock of this machine does not have
        return False


def are_values(rows: Collection[Mapping[str, Any]]) -> bool:
    """Whether these columns of a trial's values can be read."""
    try:
        by_objective = {row["objective"]: _value(row["value"], row["value_type"]) for row in rows}
    except (LookupError, AssertionError):
        return False
    return by_objective.keys() == set(range(len(by_objective)))
