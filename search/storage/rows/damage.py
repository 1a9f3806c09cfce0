"""Damaged rows of a study: found one by one, whatever they hold, and taken out with a copy kept.

The storage refuses a study with such a row (`search.storage.rows.checks`). Here every row is read as text, so that one
that cannot be read does not hide the others.
"""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import json_to_distribution
from optuna.trial import TrialState
from sqlalchemy import Connection, DateTime, bindparam, text

from search.config.type_checks import fits, shown
from search.machine.standard_streams import printable
from search.storage.attributes import ENDING, EXCESS_RISE, MANIFEST, REASON, RESULT, THREADS
from search.storage.ending import Ending
from search.storage.rows.checks import (
    attribute_problems,
    is_correlation,
    is_parameter,
    is_trial_number,
    study_problems,
)
from search.storage.rows.trials import are_values, is_date

if TYPE_CHECKING:
    from search.storage.database import Database

REMOVED = "removed-rows.jsonl"
"""In the study's folder: what `remove_damage` took out, a row a line."""
_TEXT_COLUMNS = {  # of each table below a trial: the name of its number, and what is read of it
    "trial_user_attributes": ("trial_user_attribute_id", "key, value_json"),
    "trial_system_attributes": ("trial_system_attribute_id", "key, value_json"),
    "trial_params": ("param_id", "param_name, param_value, distribution_json"),
    "trial_intermediate_values": (
        "trial_intermediate_value_id",
        "step, intermediate_value, intermediate_value_type",
    ),
}
_Problems = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[tuple[str, str]]]
_FAILS_TRIAL = (RESULT, EXCESS_RISE)
"""Without these, a finished trial's value would be believed for more than it is."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A row that does not hold what it should.

    table: where it stands; row: its number there. trial: the number and the id of its trial; None of a row of the
    study. problem: what is wrong with it. fails_trial: whether its trial is worth nothing without it. content: all of
    it that was read.
    """

    table: str
    row: int
    trial: tuple[int | None, int] | None
    problem: str
    fails_trial: bool
    content: Mapping[str, Any]

    @property
    def is_removable(self) -> bool:
        """Whether the study is one without it."""
        return not (self.table == "study_user_attributes" and self.content["key"] == MANIFEST)

    @property
    def is_noted_again(self) -> bool:
        """Whether the next search finds the value anew; without the row it would take the study for an earlier one."""
        return self.table == "study_user_attributes" and self.content["key"] == THREADS

    def __str__(self) -> str:
        """`trial 3: n_lost is 'x', expected int >= 0`."""
        if self.trial is None:
            return self.problem
        number = "without a number" if self.trial[0] is None else self.trial[0]
        return f"trial {number}: {self.problem}"


def look_at(connection: Connection, study: str) -> tuple[bool, int]:
    """Whether a study has a manifest, whatever that holds, and the number of its trials."""
    about = {"name": study, "key": MANIFEST}
    of_study = "study_id = (SELECT study_id FROM studies WHERE study_name = :name)"
    manifests = text(f"SELECT COUNT(*) FROM study_user_attributes WHERE {of_study} AND key = :key")
    trials = text(f"SELECT COUNT(*) FROM trials WHERE {of_study}")
    return bool(connection.execute(manifests, about).scalar_one()), connection.execute(trials, about).scalar_one()


def find_damage(connection: Connection, study: str) -> list[Damage]:
    """Every damaged row of a study and of its trials."""
    with any_text(connection, "surrogateescape"):
        named = text("SELECT study_id FROM studies WHERE study_name = :name")
        study_id = connection.execute(named, {"name": study}).scalar_one()
        is_ours, _ = look_at(connection, study)
        return [*_of_study(connection, study_id), *_of_trials(connection, study_id, is_ours)]


@contextlib.contextmanager
def any_text(connection: Connection, errors: str) -> Iterator[None]:
    """Meanwhile a text in SQLite that is not UTF-8 is read as well; `errors` says how, as in `bytes.decode`."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw: Any = connection.connection.dbapi_connection
    raw.text_factory = lambda data: data.decode("utf-8", errors)
    try:
        yield
    finally:
        raw.text_factory = str


def remove_damage(database: "Database", study: str, folder: Path) -> list[Damage]:
    """Take damaged rows out and return them; a copy of each is kept in `folder`, the study's own.

    A trial that is worth nothing without its row counts as failed afterwards, and is not run again. A manifest is not
    taken out: without it nobody knows what the study's trials are about.

    Raises:
        OSError: The copy cannot be written; nothing was removed.
    """
    with database.lock, database.storage.engine.begin() as connection:
        found = [damage for damage in find_damage(connection, study) if damage.is_removable]
        if not found:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / REMOVED).open("a", encoding="utf-8") as file:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            for damage in found:
                about = {"when": now, "table": damage.table, "trial": damage.trial and damage.trial[0]}
                file.write(json.dumps({**about, "row": damage.content}, default=str) + "\n")
        for damage in found:
            if damage.is_noted_again:
                note = text("UPDATE study_user_attributes SET value_json = 'null' WHERE study_user_attribute_id = :row")
                connection.execute(note, {"row": damage.row})
            elif damage.table != "trials":
                key = _TEXT_COLUMNS.get(damage.table, (f"{damage.table.removesuffix('s')}_id", ""))[0]
                connection.execute(text(f"DELETE FROM {damage.table} WHERE {key} = :row"), {"row": damage.row})
        reasons = {damage.trial[1]: damage.problem for damage in found if damage.trial and damage.fails_trial}
        for trial_id, problem in reasons.items():
            _fail(connection, trial_id, f"taken out of the study by doctor --repair ({problem})")
        _renumber(connection, [damage for damage in found if damage.table == "trials"])
    return found


def _of_study(connection: Connection, study_id: int) -> Iterator[Damage]:
    for table in ("study_user_attributes", "study_system_attributes"):
        selected = f"{table.removesuffix('s')}_id AS row, key, value_json FROM {table} WHERE study_id = :id"
        for row in _rows(connection, selected, study_id):
            _, problem = _attribute(table, row, study_problems)
            if problem is not None:
                yield _damage(table, row, None, problem)


def _of_trials(connection: Connection, study_id: int, is_ours: bool) -> Iterator[Damage]:
    columns_of_trial = ("number", "state", "datetime_start", "datetime_complete")
    what = ", ".join(["trial_id AS row", *(f"trials.{column} AS {column}" for column in columns_of_trial)])
    # First of all: one that is complete now has its result and its value.
    trials = _rows(connection, f"{what} FROM trials WHERE study_id = :id", study_id)
    results: dict[int, Any] = {}
    for table, (key_column, columns) in _TEXT_COLUMNS.items():
        what = f"{key_column} AS row, trials.trial_id AS trial_id, trials.number AS number, {columns}"
        for row in _rows(connection, f"{what} FROM {_below_trials(table)}", study_id):
            try:
                problem = _problem(table, row, results)
            except TypeError as error:  # SQLite keeps anything in any column
                problem = f"it holds values of another type ({error})"
            if problem is not None:
                yield _damage(table, row, (row["number"], row["trial_id"]), problem)
    values: dict[int, list[Mapping[str, Any]]] = {}
    what = "trials.trial_id AS trial_id, objective, value, value_type"
    for row in _rows(connection, f"{what} FROM {_below_trials('trial_values')}", study_id):
        values.setdefault(row["trial_id"], []).append(row)
    numbers: set[int] = set()
    for row in trials:
        own = values.get(row["row"], [])
        problem = _problem_of_trial(row, own, results.get(row["row"]))
        if problem is None and is_ours and row["state"] == "COMPLETE" and row["row"] not in results:
            problem = f"it is complete without a {RESULT}"
        if is_trial_number(row["number"]):
            if problem is None and row["number"] in numbers:
                problem = "its number is that of an earlier trial too"
            numbers.add(row["number"])
        if problem is not None:
            yield _damage("trials", {**row, "values": own}, (row["number"], row["row"]), problem)


def _below_trials(table: str) -> str:
    return f"{table} JOIN trials ON trials.trial_id = {table}.trial_id WHERE trials.study_id = :id"


def _rows(connection: Connection, selected: str, study_id: int) -> list[dict[str, Any]]:
    """In the order in which they were written; the texts are ours, the id alone is a value."""
    found = connection.execute(text(f"SELECT {selected} ORDER BY 1"), {"id": study_id})
    return [dict(row) for row in found.mappings()]


def _problem(table: str, row: Mapping[str, Any], results: dict[int, Any]) -> str | None:
    """What is wrong with a row below a trial; results are noted by the trial's id, None of one that is not well."""
    if table == "trial_intermediate_values":
        value, step = row["intermediate_value"], row["step"]
        is_finite = row["intermediate_value_type"] == "FINITE" and fits(float, value)
        return None if is_finite and step >= 0 else f"it reported {shown(value)} at step {step}"
    if table == "trial_params":
        name = printable(str(row["param_name"]))
        try:
            distribution = json_to_distribution(row["distribution_json"])
            param = distribution.to_external_repr(row["param_value"])
        except Exception as error:  # Optuna builds whatever the text says
            return f"its parameter {name} cannot be read ({type(error).__name__})"
        return None if is_parameter(distribution, param) else f"its parameter {name} is {shown(param)}"
    value, problem = _attribute(table, row, partial(attribute_problems, row["number"]))
    if (table, row["key"]) == ("trial_user_attributes", RESULT):
        results[row["trial_id"]] = None if problem else value
    return problem


def _problem_of_trial(row: Mapping[str, Any], values: list[Mapping[str, Any]], result: Any) -> str | None:
    if not is_trial_number(row["number"]):
        return f"its number is {shown(row['number'])}, expected a whole number from 0"
    if row["state"] not in TrialState.__members__:
        return f"its state is {shown(row['state'])}, expected one of {', '.join(TrialState.__members__)}"
    for name in ("datetime_start", "datetime_complete"):
        if not is_date(row[name]):
            return f"its {name} is {shown(row[name])}, expected a date and a time"
    if row["state"] != "COMPLETE":
        return None if are_values(values) else f"its values are {shown(values)}, expected one of objective 0 or none"
    known = [value["value"] for value in values if value["value_type"] == "FINITE" and value["objective"] == 0]
    if len(values) != 1 or len(known) != 1 or not is_correlation(known[0]):
        return f"it is complete with the values {shown([value['value'] for value in values])}, expected one correlation"
    if result is not None and result["value"] != known[0]:
        return f"it is complete with the value {shown(known[0])}, and its result says {shown(result['value'])}"
    return None


def _attribute(table: str, row: Mapping[str, Any], problems: _Problems) -> tuple[Any, str | None]:
    """The value of an attribute's row, and what is wrong with it; `problems` takes user and system attributes."""
    try:
        value = json.loads(row["value_json"])
    except (TypeError, ValueError, RecursionError):
        return None, f"{printable(str(row['key']))} holds {shown(row['value_json'])}, expected JSON"
    attributes = {row["key"]: value}
    found = problems(attributes, {}) if "_user_" in table else problems({}, attributes)
    return value, next((words for _, words in found), None)


def _damage(table: str, row: Mapping[str, Any], trial: tuple[int | None, int] | None, problem: str) -> Damage:
    fails = table in ("trials", "trial_params") or (table == "trial_user_attributes" and row["key"] in _FAILS_TRIAL)
    problem = printable(problem)
    return Damage(table=table, row=row["row"], trial=trial, problem=problem, fails_trial=fails, content=dict(row))


def _renumber(connection: Connection, found: list[Damage]) -> None:
    """Give trials whose number is none, or another's, the next ones of their study."""
    for damage in found:
        about, number = {"row": damage.row}, damage.content["number"]
        others = text(
            "SELECT number FROM trials WHERE study_id = (SELECT study_id FROM trials WHERE trial_id = :row) "
            "AND trial_id <> :row"
        )
        numbers = [other for other in connection.execute(others, about).scalars() if fits(int, other)]
        if not is_trial_number(number) or number in numbers:
            change = text("UPDATE trials SET number = :number WHERE trial_id = :row")
            connection.execute(change, {**about, "number": max(numbers, default=-1) + 1})


def _fail(connection: Connection, trial_id: int, reason: str) -> None:
    """Let a trial count as failed for good; it has taken the time that it took."""
    about: dict[str, Any] = {"id": trial_id, "now": datetime.datetime.now(datetime.UTC).replace(tzinfo=None)}
    connection.execute(text("DELETE FROM trial_values WHERE trial_id = :id"), about)
    columns = "datetime_start, datetime_complete"
    (dates,) = connection.execute(text(f"SELECT {columns} FROM trials WHERE trial_id = :id"), about).mappings()
    for name in [name for name in dates if dates[name] is None or not is_date(dates[name])]:
        change = text(f"UPDATE trials SET {name} = :now WHERE trial_id = :id")
        connection.execute(change.bindparams(bindparam("now", type_=DateTime)), about)
    connection.execute(text("UPDATE trials SET state = 'FAIL' WHERE trial_id = :id"), about)
    for key, value in ((ENDING, Ending.REFUSED), (REASON, reason)):
        row = {"id": trial_id, "key": key, "json": json.dumps(value)}
        connection.execute(text("DELETE FROM trial_user_attributes WHERE trial_id = :id AND key = :key"), row)
        connection.execute(
            text("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:id, :key, :json)"), row
        )
