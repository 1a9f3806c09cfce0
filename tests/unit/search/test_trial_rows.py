"""All trials of a study at once: what is read is what Optuna itself reads, in both databases."""

import datetime
import math
import shutil
import uuid

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import make_url

from search.storage import resilient
from search.storage.database import open_database
from search.storage.resilient import set_attributes
from search.storage.rows import trials as trial_rows

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")

N_TRIALS = 12
DISTRIBUTIONS = {
    "z.first": FloatDistribution(1e-5, 1.0, log=True),
    "a.second": IntDistribution(1, 9, step=2),
    "m.third": CategoricalDistribution(["ä", None, 3, False]),
}


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """Reading is compared for all that Optuna can keep, also for what no study of ours may hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resilient, "trial_problems", lambda trial: ())
        yield


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def filled(request, unchecked, tmp_path_factory):
    """The URL of a database that tests copy: writing its trials takes a hundred times as long as copying them."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('filled') / 'studies.db'}"
    else:
        server = request.getfixturevalue("postgres")
        url = server.url(server.create_database())
    database = open_database(url, create=True)
    fill(database)
    database.storage.remove_session()  # neither database is copied while somebody has it open
    database.storage.engine.dispose()
    return url


@pytest.fixture
def database(filled, request, tmp_path):
    """A fresh copy of the filled database."""
    url = make_url(filled)
    if url.get_backend_name() == "sqlite":
        copy = url.set(database=shutil.copy(url.database, str(tmp_path / "studies.db")))
    else:
        copy = url.set(database=f"test_{uuid.uuid4().hex[:12]}")
        with request.getfixturevalue("postgres").connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {copy.database} TEMPLATE {url.database}")
    database = open_database(copy.render_as_string(hide_password=False), create=False)
    yield database
    database.storage.engine.dispose()


@pytest.fixture
def study(database):
    """The study of the copied database."""
    return optuna.load_study(storage=database.storage, study_name="here")


def fill(database):
    """Two studies with trials of every state and every kind of value, those of one between those of the other."""
    study = optuna.create_study(storage=database.storage, study_name="here")
    other = optuna.create_study(storage=database.storage, study_name="there")
    for number in range(N_TRIALS):
        state = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING][number % 4]
        trial = create_trial(
            state=state,
            value=[0.25, math.inf, -math.inf][number // 4] if state == TrialState.COMPLETE else None,
            params={"z.first": 0.1, "a.second": 3, "m.third": ["ä", None, 3, False][number % 4]} if number % 3 else {},
            distributions=DISTRIBUTIONS if number % 3 else {},
            user_attrs={"notes": {"values": [[0.1, None]], "ö": "ü"}, "empty": None, "number": number},
            system_attrs={"constraints": {"memory": 1.0}} if number % 2 else {},
            intermediate_values={3: 0.5, 1: math.nan, 2: math.inf, 7: -math.inf} if number % 2 else {},
        )
        study.add_trial(trial)
        other.add_trial(trial)
    running = study.ask(DISTRIBUTIONS)  # one of those that waited
    running.report(0.125, step=99)
    set_attributes(running, user={"worker": "here:1"}, system={})


def as_optuna_reads(storage, study, *words):
    return RDBStorage._get_trials(storage, study._study_id, *words)


def assert_same(found, expected):
    assert [vars(trial) for trial in found] == [vars(trial) for trial in expected] or _text(found) == _text(expected)
    assert [list(trial.params) for trial in found] == [list(trial.params) for trial in expected], "in sampled order"


def _text(trials):
    """NaN is not equal to itself: written out it is."""
    return [repr(sorted((key, _sorted(value)) for key, value in vars(trial).items())) for trial in trials]


def _sorted(value):
    return sorted(value.items(), key=repr) if isinstance(value, dict) else value


@pytest.mark.parametrize("most", [500, 2], ids=["ids named", "whole study"])
@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.WAITING)])
def test_it_is_what_optuna_reads(database, study, states, most, monkeypatch):
    monkeypatch.setattr(trial_rows, "_MOST_NAMED", most)
    storage, ids = database.storage, [trial._trial_id for trial in study.get_trials()]
    everything = as_optuna_reads(storage, study, states, set(), -1)
    assert len(everything) == (3 if states else N_TRIALS)
    assert_same(storage._get_trials(study._study_id, states, set(), -1), everything)
    for unfinished, newer_than in (({ids[3], ids[7], ids[11]}, ids[-2]), (set(ids), ids[4]), (set(), ids[-1])):
        words = (states, unfinished, newer_than)
        assert_same(storage._get_trials(study._study_id, *words), as_optuna_reads(storage, study, *words))


def test_it_reads_what_was_finished_since(database, study):
    seen = optuna.load_study(study_name="here", storage=database.storage)
    assert len(seen.get_trials()) == N_TRIALS
    running = next(trial for trial in study.get_trials() if trial.state == TrialState.RUNNING)
    study.tell(running.number, 0.75)
    study.add_trial(create_trial(state=TrialState.COMPLETE, value=2.0))
    assert (seen.get_trials()[running.number].value, seen.get_trials()[-1].value) == (0.75, 2.0)
    assert_same(seen.get_trials(), as_optuna_reads(database.storage, study, None, set(), -1))


def test_one_new_trial_among_many_is_all_that_is_read(database, study):
    last = study.get_trials()[-1]._trial_id
    statements = []

    @event.listens_for(database.storage.engine, "after_cursor_execute")
    def _(connection, cursor, statement, parameters, context, many):
        statements.append(statement)

    database.storage._get_trials(study._study_id, None, set(), last - 1)
    assert len(statements) == 6, "its trials, and five tables of what belongs to them"
    assert all("JOIN" not in statement for statement in statements)
    statements.clear()
    assert database.storage._get_trials(study._study_id, None, set(), last) == []
    assert len(statements) == 2, "its trials, and whether there is such a study"


def test_times_are_local_ones(database, study):
    start = datetime.datetime(2026, 7, 1, 12, 30, 15, 250_000)
    trial = create_trial(state=TrialState.COMPLETE, value=1.0)
    trial.datetime_start, trial.datetime_complete = start, start + datetime.timedelta(seconds=1.5)
    study.add_trial(trial)
    found = database.storage._get_trials(study._study_id, None, set(), -1)[-1]
    assert (found.datetime_start, found.duration) == (start, datetime.timedelta(seconds=1.5))


def test_a_study_that_is_gone_is_a_key_error(database, study):
    optuna.delete_study(study_name="here", storage=database.storage)
    with pytest.raises(KeyError):
        database.storage._get_trials(study._study_id, None, set(), -1)
