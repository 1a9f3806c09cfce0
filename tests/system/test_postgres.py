"""A study in a real Postgres that restarts, crashes and loses connections: nothing lost, nothing doubled."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState, create_trial
from sqlalchemy import NullPool, create_engine, event, text
from sqlalchemy.engine import make_url

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.storage.advisory_lock import AdvisoryLock
from search.storage.database import Database, open_database
from search.storage.outages import Outages, StorageLost
from search.storage.resilient import ResilientStorage
from search.storage.schema import complete
from search.study.artifacts import Artifacts
from search.study.config import study_config
from search.study.study import manifest, open_study
from search.workers.display import Display
from search.workers.signals import Signals
from search.workers.trial import TrialRunner
from search.workers.worker import Worker
from tests.helpers.openers import MANIFEST
from tests.helpers.postgres import PASSWORD, PostgresServer
from tests.helpers.proxy import Proxy, proxy_to

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.timeout(1200),
]
N_PROCESSES = 8
N_ROUNDS = 20
# Longer than it takes until an outage is announced, and than the longest pause between two attempts.
OUTAGE_S = 5


def name_of(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name


def short_lived(url: str, *, lease_s: int = 3, **outages: object) -> ResilientStorage:
    """A storage as the search has it, but for its patience."""
    complete(create_engine(url, poolclass=NullPool), "test")
    return ResilientStorage(
        url,
        outages=Outages("test", **outages),  # type: ignore[arg-type]
        engine_kwargs={"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True},
        heartbeat_interval=1,
        grace_period=lease_s,
    )


@pytest.fixture
def database(postgres_url: str) -> Database:
    return open_database(postgres_url, create=True)


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_processes_that_open_an_empty_database_at_once_make_one_study(
    kind: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    urls = [
        postgres.url(postgres.create_database()) if kind == "postgres" else f"sqlite:///{tmp_path}/{number}.db"
        for number in range(N_ROUNDS)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.openers", str(N_PROCESSES), *urls],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    for url in urls:
        storage = open_database(url, create=False).storage
        (study,) = storage.get_all_studies()
        assert study.user_attrs.keys() == {"manifest", "study_id"}
        assert study.user_attrs["manifest"] == MANIFEST


def make_trouble(postgres: PostgresServer, database: str) -> Iterator[str]:
    yield "nothing yet"
    for end in (postgres.stop, postgres.crash):
        end()
        try:
            yield "out"
        finally:
            postgres.start()
    postgres.drop_connections(database)
    yield "dropped"


@pytest.mark.smoke
def test_a_loop_of_trials_and_its_heartbeats_outlive_outages(
    postgres: PostgresServer, postgres_url: str, database: Database
) -> None:
    study = optuna.create_study(study_name="loop", storage=database.storage)
    told: list[float] = []
    beats: list[int] = []
    trouble = make_trouble(postgres, name_of(postgres_url))
    stop = threading.Event()

    def cause() -> None:
        for state in trouble:
            time.sleep(OUTAGE_S if state == "out" else 1)
        stop.set()

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        for step in range(3):
            trial.report(value, step)
            beats.append(threading.active_count())
        trial.set_user_attr("value", value)
        return value

    thread = threading.Thread(target=cause)
    thread.start()
    try:
        while not stop.is_set() or len(told) <= 3:  # a busy machine may get no further meanwhile
            with database.lock:
                study.enqueue_trial({"x": len(told) / 1e6})
            told.append(len(told) / 1e6)
            study.optimize(objective, n_trials=1)
    finally:
        thread.join()
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # A waiting trial that was taken by a call whose answer was lost is run again by whoever finds it, not here.
    unheard = [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert len(unheard) <= 3
    assert {trial.number for trial in trials} == set(range(len(trials)))
    assert [trial.user_attrs["value"] for trial in complete] == [trial.value for trial in complete]
    assert all(list(trial.intermediate_values.values()) == [trial.value] * 3 for trial in complete)
    lined_up = [trial.system_attrs["fixed_params"]["x"] for trial in trials if "fixed_params" in trial.system_attrs]
    assert sorted(lined_up) == told
    assert len(complete) == len(told)


def wait_for_heartbeat(storage: ResilientStorage) -> None:
    """Wait for the first one of a study's only trial: another thread writes it, in its own time."""
    while True:
        with storage.engine.connect() as connection:
            if connection.execute(text("SELECT 1 FROM trial_heartbeats")).first() is not None:
                return
        time.sleep(0.05)


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_a_heartbeat_goes_on_after_an_outage_longer_than_the_lease(
    postgres: PostgresServer, postgres_url: str, end: str
) -> None:
    # A lease that is not over because this process is held up for some seconds; the outage is made to look longer.
    storage = short_lived(postgres_url, lease_s=60, settle_s=8)
    study = optuna.create_study(study_name="beats", storage=storage)
    watcher = short_lived(postgres_url, lease_s=60, settle_s=8)
    watched = optuna.load_study(study_name="beats", storage=watcher)

    def objective(trial: optuna.Trial) -> float:
        wait_for_heartbeat(storage)
        getattr(postgres, end)()
        time.sleep(1)
        postgres.start()
        with postgres.connect(name_of(postgres_url)) as connection:
            connection.execute("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
        watched.get_trials()  # meets the outage's end by a pooled connection that is dead
        deadline = time.monotonic() + 60
        while not storage.outages.is_settled() and time.monotonic() < deadline:
            fail_stale_trials(watched)
            time.sleep(0.1)
        assert storage.outages.is_settled()
        time.sleep(1)
        fail_stale_trials(watched)
        return 1.0

    study.optimize(objective, n_trials=1)
    assert [trial.state for trial in watched.get_trials()] == [TrialState.COMPLETE]


def test_nobody_is_given_up_before_everybody_could_be_heard_of(postgres: PostgresServer, postgres_url: str) -> None:
    early = short_lived(postgres_url, settle_s=3600, is_settled=False)
    study = optuna.create_study(study_name="settled", storage=early)
    early.record_heartbeat(early.create_new_trial(study._study_id))
    with postgres.connect(name_of(postgres_url)) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
    assert not open_database(postgres_url, create=False).is_settled()
    fail_stale_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    late = short_lived(postgres_url, settle_s=0.1, is_settled=False)
    time.sleep(0.2)
    assert late.outages.is_settled()
    fail_stale_trials(optuna.load_study(study_name="settled", storage=late))
    assert study.trials[0].state == TrialState.FAIL


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with proxy_to(postgres.port) as proxy:
        yield proxy


def test_a_call_whose_commit_was_never_answered_is_not_done_twice(
    postgres: PostgresServer, postgres_url: str, proxy: Proxy
) -> None:
    url = make_url(postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
    storage = short_lived(url)
    seen = short_lived(postgres_url)

    proxy.lose_next_answer()
    study = optuna.create_study(study_name="once", storage=storage, load_if_exists=True)
    study_id = study._study_id
    assert [found.study_name for found in seen.get_all_studies()] == ["once"]

    proxy.lose_next_answer()
    trial_id = storage.create_new_trial(study_id)
    assert [trial._trial_id for trial in seen.get_all_trials(study_id)] == [trial_id]
    proxy.lose_next_answer()
    waiting = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 0.5}})
    waiting_id = storage.create_new_trial(study_id, waiting)
    first, second = seen.get_all_trials(study_id)
    assert (second._trial_id, second.number, second.state) == (waiting_id, 1, TrialState.WAITING)
    assert second.system_attrs == {"fixed_params": {"x": 0.5}}

    uniform = optuna.distributions.FloatDistribution(0, 1)
    for call in (
        lambda: storage.set_trial_param(trial_id, "x", 0.25, uniform),
        lambda: storage.set_trial_intermediate_value(trial_id, 3, 0.75),
        lambda: storage.set_trial_user_attr(trial_id, "a", [1]),
        lambda: storage.set_study_user_attr(study_id, "b", 2),
        lambda: storage.record_heartbeat(trial_id),
    ):
        proxy.lose_next_answer()
        call()
    proxy.lose_next_answer()
    assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    first = seen.get_trial(trial_id)
    assert (first.state, first.value, first.params) == (TrialState.COMPLETE, 0.5, {"x": 0.25})
    assert (first.intermediate_values, first.user_attrs) == ({3: 0.75}, {"a": [1]})
    assert seen.get_study_user_attrs(study_id) == {"b": 2}
    assert proxy.n_lost == 9

    with pytest.raises(UpdateFinishedTrialError):  # that was not an answer lost, but a mistake
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    # Somebody else may have taken a waiting trial as well as we: it is left alone, and its lease runs out.
    proxy.lose_next_answer()
    assert not storage.set_trial_state_values(waiting_id, TrialState.RUNNING)
    assert seen.get_trial(waiting_id).state == TrialState.RUNNING


def test_a_trial_that_another_worker_finished_meanwhile_is_not_taken_for_ours(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, other = short_lived(postgres_url), short_lived(postgres_url)
    study = optuna.create_study(study_name="taken", storage=storage)
    trial_id = storage.create_new_trial(study._study_id)
    real = optuna.storages.RDBStorage.set_trial_state_values
    attempts: list[int] = []

    def lose_first(self: ResilientStorage, *args: object) -> bool:
        attempts.append(1)
        if len(attempts) == 1:
            real(other, trial_id, TrialState.FAIL)
            raise optuna.exceptions.StorageInternalError from psycopg.OperationalError("lost")
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_state_values", lose_first)
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    assert len(attempts) == 2


def test_a_database_that_stays_away_is_given_up_in_a_sentence(postgres: PostgresServer, postgres_url: str) -> None:
    said: list[str] = []
    database = open_database(postgres_url, create=True, announce=said.append, patience_s=3)
    study = optuna.create_study(study_name="gone", storage=database.storage)
    postgres.stop()
    try:
        with pytest.raises(StorageLost) as lost, database.guarded("gone"):
            study.optimize(lambda trial: 1.0, n_trials=1)
        database.storage.record_heartbeat(1)  # never fails: it would end the thread that beats
    finally:
        postgres.start()
    assert "did not come back within 3 s (Connection refused)" in str(lost.value)
    assert lost.value.exit_status == 1
    assert "waiting for it" in said[0]
    assert PASSWORD not in str(lost.value) + "".join(said)
    study.optimize(lambda trial: 1.0, n_trials=1)
    assert said[-1].endswith("answers again.")


def test_an_outage_within_a_trial_is_given_up_in_a_sentence_too(postgres: PostgresServer, postgres_url: str) -> None:
    database = open_database(postgres_url, create=True, announce=lambda sentence: None, patience_s=1)
    study = optuna.create_study(study_name="within", storage=database.storage)

    def objective(trial: optuna.Trial) -> float:
        postgres.crash()
        return trial.suggest_float("x", 0, 1)

    try:
        with pytest.raises(StorageLost, match="did not come back within 1 s"), database.guarded("within"):
            study.optimize(objective, n_trials=1)
    finally:
        postgres.start()


def test_who_is_interrupted_does_not_wait_for_the_database(postgres: PostgresServer, postgres_url: str) -> None:
    told: list[bool] = []
    database = open_database(postgres_url, create=True, is_interrupted=lambda: bool(told))
    study = optuna.create_study(study_name="stopped", storage=database.storage)
    postgres.stop()
    threading.Timer(0.5, lambda: told.append(True)).start()
    try:
        with pytest.raises(StorageLost, match="Stopped while") as lost, database.guarded("stopped", lambda: 143):
            study.set_user_attr("a", 1)
    finally:
        postgres.start()
    assert lost.value.exit_status == 143


def test_a_server_that_still_starts_is_waited_for(postgres: PostgresServer, postgres_url: str) -> None:
    open_database(postgres_url, create=True)
    postgres.crash()
    postgres.start(wait=False)
    refusals: list[str] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            open_database(postgres_url, create=True)
            break
        except UserError as error:
            refusals.append(str(error))
            time.sleep(0.01)
    # Before it even listens it cannot be told from a wrong port.
    assert all("Connection refused" in refusal for refusal in refusals)
    assert time.monotonic() < deadline


def test_workers_need_few_connections(postgres: PostgresServer, postgres_url: str) -> None:
    n_workers = 4
    databases = [open_database(postgres_url, create=True) for _ in range(n_workers)]
    optuna.create_study(study_name="many", storage=databases[0].storage)
    most: list[int] = []

    def work(database: Database) -> None:
        study = optuna.load_study(study_name="many", storage=database.storage)
        for _ in range(3):
            with database.lock:
                pass
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        most.append(postgres.n_connections(name_of(postgres_url)))

    threads = [threading.Thread(target=work, args=[database]) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == n_workers
    assert max(most) <= 3 * n_workers


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_a_study_that_somebody_deletes_ends_in_a_sentence(kind: str, postgres_url: str, tmp_path: Path) -> None:
    database = open_database(postgres_url if kind == "postgres" else f"sqlite:///{tmp_path}/s.db", create=True)
    study = optuna.create_study(study_name="doomed", storage=database.storage)

    def objective(trial: optuna.Trial) -> float:
        wait_for_heartbeat(database.storage)  # one that is written meanwhile is a row that Optuna cannot delete
        optuna.delete_study(study_name="doomed", storage=database.storage)
        return trial.suggest_float("x", 0, 1)

    with (
        pytest.raises(UserError, match=r"Study 'doomed' was deleted from .* meanwhile") as error,
        database.guarded("doomed"),
    ):
        study.optimize(objective, n_trials=1)
    assert error.value.exit_status == 2
    assert PASSWORD not in str(error.value)
    with pytest.raises(UserError, match="was deleted"), database.guarded("doomed"):
        study.get_trials()


def test_a_bug_stays_a_bug(database: Database) -> None:
    study = optuna.create_study(study_name="buggy", storage=database.storage)
    with pytest.raises(KeyError, match="mine"), database.guarded("buggy"):
        study.optimize(lambda trial: {}["mine"], n_trials=1)


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_a_full_disk_ends_in_a_sentence(kind: str, postgres_url: str, tmp_path: Path) -> None:
    database = open_database(postgres_url if kind == "postgres" else f"sqlite:///{tmp_path}/s.db", create=True)
    study = optuna.create_study(study_name="full", storage=database.storage)
    if kind == "sqlite":

        @event.listens_for(database.storage.engine, "connect")
        def _(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA max_page_count = 1")

        database.storage.engine.dispose()
    else:  # the server's own error, without filling its disk
        with database.storage.engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
                    "'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
                )
            )
            connection.execute(text("CREATE TRIGGER is_full BEFORE INSERT ON trial_values EXECUTE FUNCTION is_full()"))

    def objective(trial: optuna.Trial) -> float:
        for number in range(200):
            trial.set_user_attr(f"a{number}", "x" * 1000)
        return 1.0

    with pytest.raises(UserError, match=r"cannot be used .*: free some space") as error, database.guarded("full"):
        study.optimize(objective, n_trials=1)
    assert error.value.exit_status == 2


@pytest.mark.parametrize("kind", ["the lock's connection", "the server"])
def test_a_trial_asked_for_under_a_lock_that_was_lost_is_given_back(
    kind: str, postgres: PostgresServer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else may have counted meanwhile: with both trials the budget would be exceeded."""
    config = study_config(["task=synthetic_two_vs_rest", "model=ridge", "validation=holdout"])
    study = open_study(database, "lost", manifest(config, data_hash="", label="", model="ridge"))
    monkeypatch.setattr(TrialRunner, "_drive", lambda self, trial, run, cores: 0.5)  # the training is not our concern
    n_troubles = 0
    check = Worker._check_failures

    def lose_lock(worker: Worker) -> None:  # between counting and asking
        nonlocal n_troubles
        n_troubles += 1
        if n_troubles == 2 and kind == "the server":
            postgres.crash()
            postgres.start()
        elif n_troubles == 2:
            lock = database.lock
            assert isinstance(lock, AdvisoryLock)
            with postgres.connect("postgres") as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", [lock._open[0].info.backend_pid])
        check(worker)

    monkeypatch.setattr(Worker, "_check_failures", lose_lock)
    Worker(
        study=study,
        database=database,
        config=config,
        split=tmp_path,
        places=Places(weights_dir=None, cache_dir=tmp_path),
        directory=tmp_path / "lost",
        n_target=3,
        max_failures=1,
        signals=Signals(print),
        display=Display(),
        artifacts=Artifacts(directory=tmp_path / "lost", keep_top=0, announce=print),
    ).work()
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    given_back, again = study.trials[1], study.trials[2]
    assert given_back.user_attrs["ending"] == "interrupted"
    assert "lock" in given_back.user_attrs["reason"]
    assert (again.user_attrs["retry_of"], again.user_attrs["n_lost"]) == (1, 0)
