"""Budgets of hours, and what trials of every ending have used, counted in a real database."""

import datetime
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import update

from search.storage.attributes import ENDING, HOURS, SLOT, USES
from search.storage.database import Database
from search.storage.ending import Ending
from search.storage.optuna_internals import id_of, models
from search.study.activity import busy_s, cost
from search.study.hours.budget import NO_LIMIT, Hours, HoursBudget
from search.study.hours.meter import Meter, raise_hours, recorded_hours, used_hours
from search.study.snapshot import StudySnapshot
from search.workers.slots import THIS_PROCESS, Slot, make_slots
from tests.helpers.small_study import default_database, make_study, record

START = datetime.datetime(2026, 1, 1, 12)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Database, optuna.Study]:
    (tmp_path / "runs").mkdir()
    return make_study(default_database(tmp_path))


def add(study: optuna.Study, state: TrialState, hours: float, *, gpus: float = 0.0, **attributes: Any) -> FrozenTrial:
    """Add a trial of two cores that took so many hours, and return it."""
    began = time.time() - 3600 * hours
    uses = {USES: {"cores": 2, "gpus": gpus, "since": began}} if gpus >= 0 else {}
    trial = create_trial(state=state, value=0.5 if state == TrialState.COMPLETE else None, user_attrs=uses | attributes)
    trial.datetime_start = START
    trial.datetime_complete = START + datetime.timedelta(hours=hours) if state.is_finished() else None
    study.add_trial(trial)
    return study.get_trials(deepcopy=False)[-1]


def beat(database: Database, trial: FrozenTrial, *, hours_ago: float) -> None:
    """Let a trial have been heard of so long ago, by the database's clock."""
    database.storage.record_heartbeat(id_of(trial))
    then = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(hours=hours_ago)
    with database.storage.engine.begin() as connection:
        own = models.TrialHeartbeatModel.trial_id == id_of(trial)
        connection.execute(update(models.TrialHeartbeatModel).where(own).values(heartbeat=then))


def used(study: optuna.Study) -> tuple[float, float]:
    found = used_hours(study, study.get_trials(deepcopy=False))
    return pytest.approx(found.gpu, abs=0.01), pytest.approx(found.core, abs=0.01)


def test_every_ending_counts(made: tuple[Database, optuna.Study]) -> None:
    _, study = made
    assert used(study) == (0, 0)
    complete = record([[0.5]], value=0.5)
    add(study, TrialState.COMPLETE, 1.0, gpus=0.5, result=complete)
    assert used(study) == (0.5, 2)
    add(study, TrialState.PRUNED, 2.0, gpus=1.0, **{ENDING: Ending.PRUNED.value})
    assert used(study) == (2.5, 6)
    add(study, TrialState.FAIL, 4.0, **{ENDING: Ending.BUG.value})
    assert used(study) == (2.5, 14)
    add(study, TrialState.FAIL, 1.0, **{ENDING: Ending.INTERRUPTED.value})
    assert used(study) == (2.5, 16)
    add(study, TrialState.RUNNING, 3.0, gpus=0.25)
    assert used(study) == (3.25, 22)
    add(study, TrialState.WAITING, 5.0)
    assert used(study) == (3.25, 22)


def test_a_lost_trial_has_used_the_time_to_its_last_heartbeat(made: tuple[Database, optuna.Study]) -> None:
    database, study = made
    lost = add(study, TrialState.FAIL, 10.0)  # found ten hours after it began
    assert used(study) == (0, 0)  # never heard of
    beat(database, lost, hours_ago=9.5)
    assert used(study) == (0, 1)


@pytest.mark.parametrize("ending", [Ending.COMPLETE, Ending.PRUNED, Ending.OUT_OF_MEMORY])
def test_so_has_one_whose_worker_was_gone_after_it_had_noted_an_ending(
    made: tuple[Database, optuna.Study], ending: Ending
) -> None:
    database, study = made
    beat(database, add(study, TrialState.FAIL, 10.0, **{ENDING: ending.value}), hours_ago=9.5)
    assert used(study) == (0, 1)


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.BUG])
def test_so_has_one_whose_worker_was_killed_before_it_could_fail_it(
    made: tuple[Database, optuna.Study], ending: Ending
) -> None:
    database, study = made
    beat(database, add(study, TrialState.FAIL, 100.0, **{ENDING: ending.value}), hours_ago=99.5)
    assert used(study) == (0, 1)
    beat(database, add(study, TrialState.FAIL, 1.0, **{ENDING: ending.value}), hours_ago=0.0)
    assert used(study) == (0, 3), "heard of to its end"


def test_so_has_one_that_nobody_has_found_lost_yet(made: tuple[Database, optuna.Study]) -> None:
    database, study = made
    running = add(study, TrialState.RUNNING, 10.0)
    beat(database, running, hours_ago=9.5)
    assert used(study) == (0, 1)
    beat(database, running, hours_ago=0.0)
    assert used(study) == (0, 20)


def test_pace_and_cost_end_with_the_last_heartbeat_of_a_lost_trial(made: tuple[Database, optuna.Study]) -> None:
    database, study = made
    for _ in range(2):
        add(study, TrialState.PRUNED, 0.5)
    lost = add(study, TrialState.FAIL, 100.0)
    add(study, TrialState.PRUNED, 100.0)
    beat(database, lost, hours_ago=(datetime.datetime.now() - START).total_seconds() / 3600 - 1.0)
    now = StudySnapshot.of(study, database)
    assert cost(now.trials[2:3]).lost_s == pytest.approx(3600, abs=10)
    assert busy_s(now.trials[:3]) == pytest.approx(3600, abs=10)
    assert busy_s(study.get_trials()[:3]) == pytest.approx(360_000)


def test_trials_of_earlier_versions_count_as_far_as_can_be_told(made: tuple[Database, optuna.Study]) -> None:
    _, study = made
    add(study, TrialState.COMPLETE, 1.0, gpus=-1, result=record([[0.5]], value=0.5), **{SLOT: "cuda:1"})
    assert used(study) == (1, 2)  # with two threads
    add(study, TrialState.FAIL, 1.0, gpus=-1, **{SLOT: "cpu:0", ENDING: Ending.BUG.value})
    assert used(study) == (1, 3)


def test_a_meter_counts_each_trial_once_and_looks_at_new_ones_alone(made: tuple[Database, optuna.Study]) -> None:
    _, study = made

    class Seen(list[FrozenTrial]):
        """Trials that say how many of them were looked at."""

        n = 0

        def __reversed__(self) -> Any:
            for trial in list(self)[::-1]:
                self.n += 1
                yield trial

    meter = Meter(study)
    for _ in range(5):
        add(study, TrialState.PRUNED, 1.0)
    assert meter.read(study.get_trials()).core == pytest.approx(10)
    running = add(study, TrialState.RUNNING, 0.0)
    add(study, TrialState.PRUNED, 1.0)
    for _ in range(3):
        trials = Seen(study.get_trials())
        assert meter.read(trials).core == pytest.approx(12, abs=0.01)
        assert trials.n == 3  # those from the running one on, and the last that is settled
    study.tell(running.number, state=TrialState.FAIL)
    trials = Seen(study.get_trials())
    meter.read(trials)
    meter.read(trials)
    assert trials.n == 3 + 1


def test_a_clock_that_was_set_back_gives_no_hours_back(made: tuple[Database, optuna.Study]) -> None:
    _, study = made
    add(study, TrialState.PRUNED, -5.0)
    add(study, TrialState.RUNNING, -5.0)
    assert used(study) == (0, 0)


def test_the_highest_budget_is_recorded_and_holds_where_none_is_named(made: tuple[Database, optuna.Study]) -> None:
    _, study = made
    raise_hours(study, NO_LIMIT)
    assert HOURS not in study.user_attrs
    raise_hours(study, HoursBudget(core=2))
    raise_hours(study, HoursBudget(core=1, gpu=3))
    assert study.user_attrs[HOURS] == {"gpu": 3, "core": 2}
    known = recorded_hours(study.user_attrs)
    assert NO_LIMIT.over(known) == HoursBudget(gpu=3, core=2)
    assert HoursBudget(core=1).over(known) == HoursBudget(gpu=3, core=1)
    assert StudySnapshot.of(study).hours_words == ["used 0.00 of 3 GPU-hours, 0.00 of 2 core-hours"]


@pytest.mark.parametrize(
    ("budget", "used", "is_spent"),
    [
        (NO_LIMIT, Hours(gpu=1e9, core=1e9), False),
        (HoursBudget(gpu=2), Hours(gpu=1.99, core=1e9), False),
        (HoursBudget(gpu=2), Hours(gpu=2), True),
        (HoursBudget(gpu=2, core=1), Hours(core=1), True),
    ],
)
def test_a_budget_is_spent_where_one_of_its_numbers_is(budget: HoursBudget, used: Hours, is_spent: bool) -> None:
    assert budget.is_spent(used) == is_spent


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (0.0005, "0.000123 of 0.0005 core-hours"),
        (0.5, "0.000 of 0.5 core-hours"),
        (2000, "0.00 of 2,000 core-hours"),
        (0, "0.00 of 0 core-hours"),
        (5e-324, "0.000123 of 4.94066e-324 core-hours"),
    ],
)
def test_small_budgets_show_what_was_used_of_them(limit: float, words: str) -> None:
    assert HoursBudget(core=limit).words(Hours(core=0.000123)) == words


def test_slots_say_what_a_trial_occupies() -> None:
    def slots(n_workers: int | None, gpus: list[str], *, trials_per_gpu: int = 1) -> tuple[Slot, ...]:
        room: dict[str, int] = {"n_cores": 6, "n_trials": 100, "free_bytes": 2**40}
        return make_slots(n_workers, gpus=gpus, trials_per_gpu=trials_per_gpu, threads=3, **room)

    assert {slot.gpu_share for slot in slots(None, ["0", "1"], trials_per_gpu=4)} == {0.25}
    assert slots(1, ["0"], trials_per_gpu=2)[0].gpu_share == 0.5
    two, _ = slots(2, [])
    assert (two.uses(None)["cores"], two.uses(5)["cores"], two.uses(None)["gpus"]) == (3, 5, 0.0)
    assert THIS_PROCESS.uses(None)["cores"] >= 1
