"""Rows that Optuna cannot read: somebody else wrote them, or they were damaged. A sentence names study and trial."""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import optuna
from optuna import Study
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import NOT_FOUND_MSG, StudyModel, TrialModel
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select

from datasets.errors import UserError
from search.remedies import DATABASE_ERRORS, chain, reason_of

T = TypeVar("T")
READING: Final = (
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "get_trial",
    "_get_trials",
)
"""Methods of an RDBStorage that decode rows; the first argument of each is the number of a study or of a trial."""
# What Optuna, SQLAlchemy and json say of a value that is none of theirs.
_DECODING = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, ArithmeticError)


_NUMBERS = (FloatDistribution, IntDistribution)


class UnreadableStudy(UserError):
    """A study has rows that cannot be read; the text names it, and the trial."""


def readable(storage: RDBStorage, method: str, number: int, call: Callable[[], T], name: str) -> T:
    """What the call returns.

    Args:
        storage: Where the call reads.
        method: Which of `READING` it is.
        number: The study or the trial that it reads.
        call: Reads, without a look at this module.
        name: The storage's URL without secrets.

    Raises:
        UnreadableStudy: A row of the study cannot be read.
    """
    try:
        return _checked(call())
    except Exception as error:
        if not _is_of_a_row(error):
            raise
        is_databases = isinstance(error, DATABASE_ERRORS)
        said = reason_of(error) if is_databases else " ".join(f"{type(error).__name__}: {error}".split())
        study_id, numbers = _place(storage, method, number)
        at = f", trial {'without a number' if numbers[0] is None else numbers[0]}" if numbers else ""
        raise UnreadableStudy(
            f"Study {_study_name(storage, study_id)!r} of {name} has a row that cannot be read{at} ({said[:200]}): "
            "`doctor` shows such studies; restore the database from a copy, or choose another --study-name."
        ) from None


def check_readable(study: Study) -> None:
    """Read everything that a study has.

    Raises:
        UnreadableStudy: Some of it cannot be read.
    """
    _ = study.user_attrs, study._storage.get_study_system_attrs(study._study_id), study.get_trials(deepcopy=False)


def readable_studies(storage: RDBStorage, names: Sequence[str]) -> tuple[list[Study], list[UnreadableStudy]]:
    """The studies of these names whose rows can be read, and what is to be said of the others."""
    studies, problems = [], []
    for name in names:
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            check_readable(study)  # so that nobody comes upon it later
        except UnreadableStudy as error:
            problems.append(error)
        else:
            studies.append(study)
    return studies, problems


def study_names(storage: RDBStorage) -> list[str]:
    """The names of all studies, in order; without their attributes, of which one that is broken would hide them all."""
    with storage.engine.connect() as connection:
        return list(connection.execute(select(StudyModel.study_name).order_by(StudyModel.study_name)).scalars())


def all_studies(storage: RDBStorage) -> list[FrozenStudy]:
    """All studies whose attributes can be read."""
    try:
        return RDBStorage.get_all_studies(storage)
    except Exception as error:
        if not _is_of_a_row(error):
            raise
    with storage.engine.connect() as connection:
        rows = connection.execute(
            select(StudyModel.study_id, StudyModel.study_name).order_by(StudyModel.study_id)
        ).all()
    studies, read = [], type(storage)
    for row in rows:
        with contextlib.suppress(UnreadableStudy):
            studies.append(
                FrozenStudy(
                    study_name=row.study_name,
                    direction=None,
                    directions=read.get_study_directions(storage, row.study_id),
                    user_attrs=read.get_study_user_attrs(storage, row.study_id),
                    system_attrs=read.get_study_system_attrs(storage, row.study_id),
                    study_id=row.study_id,
                )
            )
    return studies


def _is_of_a_row(error: Exception) -> bool:
    if isinstance(error, KeyError) and error.args == (NOT_FOUND_MSG,):
        return False  # the study or the trial was deleted
    if isinstance(error, _DECODING):
        return True
    *_, last = [error, *chain(error)]
    return isinstance(last, sqlite3.OperationalError) and "decode to UTF-8" in str(last)


def _checked(result: T) -> T:
    """What was read, if it is a trial or trials after its values were looked at: Optuna takes some as they come."""
    for trial in result if isinstance(result, list) else [result]:
        if not isinstance(trial, FrozenTrial):
            break
        _check_trial(trial)
    return result


def _check_trial(trial: FrozenTrial) -> None:
    """Refuse numbers that are none, and a complete trial without a value.

    Raises:
        ValueError: A row says so.
    """
    if not isinstance(trial.number, int):
        raise ValueError(f"its number is {trial.number!r}")
    values = trial.values or []
    if trial.state == TrialState.COMPLETE and not values:
        raise ValueError("it is complete and has no value")
    params = [trial.params[name] for name, kind in trial.distributions.items() if isinstance(kind, _NUMBERS)]
    for number in (*values, *trial.intermediate_values.values(), *params):
        if not isinstance(number, int | float):
            raise ValueError(f"{number!r} is no number")


def _place(storage: RDBStorage, method: str, number: int) -> tuple[int | None, list[int | None]]:
    """The study, and the number of the trial if it is one's row."""
    trials = select(TrialModel.trial_id, TrialModel.number, TrialModel.study_id).order_by(TrialModel.trial_id)
    is_trial = method.startswith("get_trial")
    where = TrialModel.trial_id == number if is_trial else TrialModel.study_id == number
    with storage.engine.connect() as connection:
        rows = connection.execute(trials.where(where)).all()
    if is_trial:
        return (rows[0].study_id, [rows[0].number]) if rows else (None, [])
    if method != "_get_trials":
        return number, []
    low, high = 0, len(rows)  # the first that cannot be read is among these
    while high - low > 1:
        middle = (low + high) // 2
        if _can_read(storage, number, {row.trial_id for row in rows[low:middle]}, rows[-1].trial_id):
            low = middle
        else:
            high = middle
    return number, [row.number for row in rows[low:high]]


def _can_read(storage: RDBStorage, study_id: int, trial_ids: set[int], last: int) -> bool:
    try:
        _checked(RDBStorage._get_trials(storage, study_id, None, trial_ids, last))  # those, and any after the last
    except Exception:  # an error was met already; this one only says where
        return False
    return True


def _study_name(storage: RDBStorage, study_id: int | None) -> Any:
    with storage.engine.connect() as connection:
        return connection.execute(select(StudyModel.study_name).where(StudyModel.study_id == study_id)).scalar()
