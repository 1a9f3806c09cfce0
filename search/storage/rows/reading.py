"""Reading what others may have written: rows that cannot be read, or hold what they should not, name their study."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from optuna.storages import RDBStorage
from sqlalchemy import select

from search.machine.standard_streams import printable
from search.storage.attributes import MANIFEST, DamagedRow, damaged
from search.storage.optuna_internals import FrozenStudy, models
from search.storage.remedies import chain, is_database_error, reason_of
from search.storage.rows.checks import study_problems
from search.storage.rows.damage import any_text, find_damage

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
"""Methods of an RDBStorage that decode rows; the first argument of each is the id of a study or of a trial."""
# What Optuna, SQLAlchemy and json say of a value that is none of theirs.
_DECODING = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, ArithmeticError)
_PROBLEMS: Mapping[str, Callable[[Any], Iterator[tuple[str, str]]]] = {
    "get_study_user_attrs": lambda found: study_problems(found, {}),
    "get_study_system_attrs": lambda found: study_problems({}, found),
}


def readable(storage: RDBStorage, method: str, number: int, call: Callable[[], T]) -> T:
    """What the call returns, after a look at a study's attributes; trials are looked at as they are made.

    Args:
        storage: Where the call reads.
        method: Which of `READING` it is.
        number: The id of the study or of the trial that it reads.
        call: Reads, without a look at this module.

    Raises:
        DamagedRow: A row cannot be read, or does not hold what it should.
    """
    try:
        found = call()
    except Exception as error:
        if not is_of_a_row(error):
            raise
        said = reason_of(error) if is_database_error(error) else f"{type(error).__name__}: {error}"
        raise _first_damage(storage, method, number, " ".join(printable(said).split())[:200]) from None
    for key, problem in _PROBLEMS.get(method, lambda _: iter(()))(found):
        raise damaged(_study_name(storage, method, number), problem, is_removable=key != MANIFEST)
    return found


def study_names(storage: RDBStorage) -> list[str]:
    """The names of all studies, in order; without their attributes, of which one that is broken would hide them all.

    What is no text, which SQLite keeps in any column, is shown as Python writes it: no study of ours is called so.
    """
    with storage.engine.connect() as connection, any_text(connection, "backslashreplace"):
        names = connection.execute(
            select(models.StudyModel.study_name).order_by(models.StudyModel.study_name)
        ).scalars()
        return [name if isinstance(name, str) else repr(name) for name in names]


def all_studies(storage: RDBStorage) -> list[FrozenStudy]:
    """All studies whose names and attributes can be read."""
    try:
        found = RDBStorage.get_all_studies(storage)
        if all(isinstance(study.study_name, str) for study in found):
            return found
    except Exception as error:
        if not is_of_a_row(error):
            raise
    with storage.engine.connect() as connection, any_text(connection, "surrogateescape"):
        rows = connection.execute(
            select(models.StudyModel.study_id, models.StudyModel.study_name).order_by(models.StudyModel.study_id)
        ).all()
    studies, read = [], type(storage)
    for row in rows:
        if not isinstance(row.study_name, str) or re.search("[\ud800-\udfff]", row.study_name):
            continue
        with contextlib.suppress(DamagedRow):
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


def is_gone(error: BaseException) -> bool:
    """Whether it says that a study or a trial was deleted."""
    return isinstance(error, KeyError) and error.args == (models.NOT_FOUND_MSG,)


def is_of_a_row(error: Exception) -> bool:
    """Whether it says that what stands in a row cannot be read."""
    if is_gone(error):
        return False
    if isinstance(error, _DECODING):
        return True
    *_, last = [error, *chain(error)]
    return isinstance(last, sqlite3.OperationalError) and "decode to UTF-8" in str(last)


def _first_damage(storage: RDBStorage, method: str, number: int, reason: str) -> DamagedRow:
    """The row that is to blame, as far as it can be found; else `reason` is all that is known."""
    name = _study_name(storage, method, number)
    with storage.engine.connect() as connection:
        found = next(iter(find_damage(connection, name)), None)
    if found is None:
        return damaged(name, f"it has a row that cannot be read, {reason}", is_removable=False)
    return damaged(name, str(found), is_removable=found.is_removable)


def _study_name(storage: RDBStorage, method: str, number: int) -> str:
    is_trial = method.startswith("get_trial")
    of_trial = select(models.TrialModel.study_id).where(models.TrialModel.trial_id == number).scalar_subquery()
    query = select(models.StudyModel.study_name).where(models.StudyModel.study_id == (of_trial if is_trial else number))
    with storage.engine.connect() as connection:
        return str(connection.execute(query).scalar())
