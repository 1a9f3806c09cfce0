"""How long ago a worker was heard of is the same for everybody who asks, in whatever time zone."""

from pathlib import Path

import pytest
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy import text

from search.storage.database import open_database
from search.storage.lease_policy import LeasePolicy
from search.storage.rows.heartbeats import lease_ages_s
from search.study.study import find_study
from tests.helpers.small_study import NAME, add, default_database, make_study


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return default_database(tmp_path) if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def test_the_age_of_a_lease_grows_from_its_last_heartbeat(url: str) -> None:
    database, study = make_study(url)
    add(study, TrialState.COMPLETE, value=0.5)
    beaten, _silent, old = (add(study, TrialState.RUNNING) for _ in range(3))
    trials = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
    for number in (beaten, old):
        database.storage.record_heartbeat(trials[number])
    with database.storage.engine.begin() as connection:
        hour = "datetime(heartbeat, '-1 hour')" if "sqlite" in url else "heartbeat - interval '1 hour'"
        connection.execute(
            text(f"UPDATE trial_heartbeats SET heartbeat = {hour} WHERE trial_id = :id"), {"id": trials[old]}
        )
    ages = lease_ages_s(database.storage, study)
    assert set(ages) == {trials[beaten], trials[old]}
    assert 0 <= ages[trials[beaten]] < LeasePolicy().lease_s
    assert 3600 <= ages[trials[old]] < 3600 + LeasePolicy().lease_s


def test_workers_in_other_time_zones_agree_on_leases(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "America/Los_Angeles")
    database, study = make_study(postgres_url)
    number = add(study, TrialState.RUNNING)
    trial_id = study.get_trials(deepcopy=False)[number]._trial_id
    database.storage.record_heartbeat(trial_id)
    database.storage.record_heartbeat(trial_id)  # the second is written by another statement of Optuna's
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    other = open_database(postgres_url, create=False)
    seen = find_study(other, NAME)
    assert 0 <= lease_ages_s(other.storage, seen)[trial_id] < LeasePolicy().lease_s
    other.storage.outages._unsettled_since = float("-inf")
    fail_stale_trials(seen)
    assert seen.get_trials(deepcopy=False)[number].state == TrialState.RUNNING
