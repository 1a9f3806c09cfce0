"""Damaged rows: whatever a reader refuses is found and taken out, and its trial keeps the time that it took."""

import datetime
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from datasets.common.errors import UserError
from search.storage.attributes import ENDING, EXCESS_RISE, RESULT, USES, result_of
from search.storage.database import Database, open_database
from search.storage.ending import Ending
from search.storage.rows.damage import find_damage, remove_damage
from search.study.hours.meter import used_hours
from search.study.study import find_study
from tests.helpers.small_study import NAME, make_study, record

END = datetime.datetime(2026, 1, 1, 12)


@pytest.fixture(autouse=True)
def west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is behind UTC: it has no local time for the first hours of the year 1."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Database, Path]:
    """A study with a complete and a pruned trial, each of ten hours on a GPU, and its file."""
    file = tmp_path / "studies.db"
    database, study = make_study(f"sqlite:///{file}")
    uses = {USES: {"cores": 1, "gpus": 1.0, "since": 0.0}}
    for state, more in ((TrialState.COMPLETE, {RESULT: record([[0.5]], value=0.5)}), (TrialState.PRUNED, {})):
        trial = create_trial(state=state, value=0.5, user_attrs={**uses, ENDING: Ending.COMPLETE.value, **more})
        trial.datetime_start, trial.datetime_complete = END - datetime.timedelta(hours=10), END
        study.add_trial(trial)
    return database, file


def execute(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement)


def read(file: Path) -> optuna.Study:
    """The study, all of whose rows were read."""
    study = find_study(open_database(f"sqlite:///{file}", create=False), NAME)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            result_of(trial, NAME)
    return study


def damage_of(database: Database) -> list[str]:
    with database.storage.engine.connect() as connection:
        return [str(damage) for damage in find_damage(connection, NAME)]


@pytest.mark.parametrize(
    ("statement", "said", "hours"),
    [
        (f"DELETE FROM trial_user_attributes WHERE key = '{RESULT}'", "it is complete without a result", 20),
        ("UPDATE trials SET datetime_start = '0001-01-01 00:00:00' WHERE number = 0", "its datetime_start is", 10),
        ("UPDATE trials SET datetime_complete = 7 WHERE number = 0", "its datetime_complete is 7", None),
        ("UPDATE trial_values SET objective = 7 WHERE trial_id = 2", "its values are", 20),
        ("UPDATE trial_values SET value = NULL WHERE trial_id = 2", "its values are", 20),
        ("UPDATE trial_values SET value_type = 'HIGH' WHERE trial_id = 2", "its values are", 20),
    ],
)
def test_what_a_reader_refuses_is_found_and_taken_out(
    made: tuple[Database, Path], statement: str, said: str, hours: float | None
) -> None:
    database, file = made
    assert damage_of(database) == []
    execute(file, statement)
    with pytest.raises(UserError, match="doctor --repair"):
        read(file)
    (found,) = damage_of(database)
    assert said in found
    assert len(remove_damage(database, NAME, file.parent)) == 1
    study = read(file)
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 1
    if hours is not None:
        assert used_hours(study, study.trials).gpu == pytest.approx(hours)


def test_a_date_that_is_repaired_is_local_time_as_the_others_are(made: tuple[Database, Path]) -> None:
    database, file = made
    execute(file, "UPDATE trials SET datetime_complete = 7 WHERE number = 0")
    before = datetime.datetime.now()
    assert len(remove_damage(database, NAME, file.parent)) == 1
    repaired = read(file).trials[0].datetime_complete
    assert repaired is not None
    assert before <= repaired <= datetime.datetime.now()


def test_a_repair_gives_no_hours_back(made: tuple[Database, Path]) -> None:
    database, file = made
    add: Any = f"INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, '{EXCESS_RISE}', '\"x\"')"
    execute(file, add)
    assert len(remove_damage(database, NAME, file.parent)) == 1
    study = read(file)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[0].datetime_complete == END
    assert used_hours(study, study.trials).gpu == pytest.approx(20)


def test_no_repair_is_promised_of_what_is_not_found(made: tuple[Database, Path]) -> None:
    database, file = made
    execute(file, "UPDATE study_directions SET direction = 'UP'")
    with pytest.raises(UserError, match="cannot be repaired: choose another --study-name"):
        read(file)
    assert damage_of(database) == []
