"""How long ago a worker was heard of is the same for everybody who asks, in whatever time zone."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy import text

from datasets.common.errors import UserError
from search.storage.database import open_database
from search.storage.lease_policy import LeasePolicy
from search.storage.resilient import set_attributes
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


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_worker_writes_nothing_into_the_trial_that_got_the_id_of_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"  # Postgres gives no id twice
    database, study = make_study(url)
    other = optuna.create_study(storage=open_database(url, create=False).storage, study_name="other")
    study.ask()
    trial = optuna.load_study(study_name=NAME, storage=database.storage).ask()
    database.storage.hold(trial)
    trial.report(0.1, step=1)
    optuna.delete_study(study_name=NAME, storage=url)
    taken = other.ask(), other.ask()
    assert trial._trial_id in [one._trial_id for one in taken]
    before = repr(other.get_trials())
    for write in (
        lambda: trial.report(0.9, step=2),
        lambda: trial.set_user_attr("ending", "bug"),
        lambda: trial.suggest_float("model.alpha", 0.0, 1.0),
        lambda: set_attributes(trial, user={"worker": "here:1"}, system={}),
        lambda: set_attributes(trial, user={}, system={}, values={3: 0.9}),
        lambda: database.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.9]),
        lambda: database.storage.get_trial(trial._trial_id),  # the look after the lease
    ):
        with pytest.raises(UserError, match="was deleted"), database.guarded(NAME):
            write()
    make_study(url)
    with pytest.raises(UserError, match="was deleted"), database.guarded(NAME):  # and begun anew
        trial.report(0.9, step=2)
    assert repr(other.get_trials()) == before
    taken[0].report(0.5, step=1)
    other.tell(taken[0], 0.5)
