"""Whoever may write to the database may write anything: nothing outside of the study's folders is touched for it.

A real study in a real database is changed a row at a time, as somebody with SQL would. Then everything is run that
reads rows, and that writes or removes files by what they say.
"""

import contextlib
import json
import pickle
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import make_url

from search.cli.studies.watch import look
from search.storage.attributes import MANIFEST, DamagedRow
from search.storage.database import open_database
from search.storage.rows import checks as row_checks
from search.storage.rows.damage import REMOVED, find_damage
from search.storage.rows.heartbeats import lease_ages_s
from search.study.snapshot import StudySnapshot
from search.study.study import find_study
from tests.helpers.answers import run_here
from tests.helpers.examples import examples

NAME = "synthetic_two_vs_rest-ridge"
SEARCH = (
    *("--task", "synthetic_two_vs_rest", "--model", "ridge", "--export-dir", "exported", "--n-trials", "4"),
    *("--keep-top", "2", "trainer.threads=1", "trainer.max_epochs=2", "validation=holdout"),
)
TABLES = {
    "study_user_attributes": ("study_id", [*sorted(row_checks.STUDY), f"reading:{'0' * 32}", "reading:x"]),
    "study_system_attributes": ("study_id", ["artifacts:x", "dashboard:note_str:0", "dashboard:note_ver"]),
    "trial_user_attributes": ("trial_id", sorted(row_checks.TRIAL)),
    "trial_system_attributes": ("trial_id", ["artifacts:x", *sorted(row_checks.TRIAL_SYSTEM)]),
}


@dataclass(frozen=True)
class Victim:
    """A folder with a finished study, and a copy of it for each attack; `secret` is a file beside it."""

    original: Path
    folder: Path
    secret: Path
    begin: Callable[[], str]
    """Restores the database and returns its URL."""

    def restore(self) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.original, self.folder)
        return self.begin()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def victim(request, tmp_path_factory) -> Victim:
    base = tmp_path_factory.mktemp(f"victim-{request.param}")
    original, folder, secret = base / "original", base / "folder", base / "elsewhere" / "secret.safetensors"
    secret.parent.mkdir()
    secret.write_bytes(b"not yours")
    original.mkdir()
    if request.param == "sqlite":
        storage = f"sqlite:///{original / 'runs' / 'studies.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        template = postgres.create_database()
        storage = postgres.url(template)
    answer = run_here(*SEARCH, "--storage", storage, cwd=original)
    assert answer.status == 0, answer
    used: list[str] = []

    def begin() -> str:
        if request.param == "sqlite":
            return f"sqlite:///{folder / 'runs' / 'studies.db'}"
        with postgres.connect("postgres") as connection:
            for name in (template, *used):
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            while used:
                connection.execute(f"DROP DATABASE {used.pop()}")
            used.append(f"attack_{uuid.uuid4().hex[:12]}")
            connection.execute(f"CREATE DATABASE {used[0]} TEMPLATE {template}")
        return postgres.url(used[0])

    return Victim(original, folder, secret, begin)


def write(url: str, table: str, trial: int, key: str, value: str) -> None:
    """Set an attribute of the study, or of a trial, to any text."""
    owner, _ = TABLES[table]
    ids = {"study_id": "SELECT study_id FROM studies", "trial_id": "SELECT trial_id FROM trials WHERE number = :trial"}
    about = {"key": key, "value": value, "trial": trial}
    execute(url, f"DELETE FROM {table} WHERE key = :key AND {owner} = ({ids[owner]})", about)
    execute(url, f"INSERT INTO {table} ({owner}, key, value_json) VALUES (({ids[owner]}), :key, :value)", about)


def execute(url: str, statement: str, about: dict[str, object] | None = None) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement), about or {})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def attack(victim: Victim, url: str) -> list[str]:
    """Run what reads the study and works with files; the sentences with which it was refused."""
    kept = files_of(victim.original / "exported")
    refusals = []
    search = run_here(*SEARCH, "--storage", url, cwd=victim.folder)
    status = run_here("status", "--json", "--study-name", NAME, "--storage", url, cwd=victim.folder)
    for answer in (search, status):
        assert answer.status in (0, 1, 2), answer
        assert "Traceback" not in answer.out + answer.err, answer
        if answer.status == 2:
            *_, sentence = answer.err.splitlines()
            assert sentence.startswith("error: "), answer
            refusals.append(sentence)
    database = open_database(url, create=False)
    try:
        for name in database.storage.study_names():
            with contextlib.suppress(Refused):
                look(database, find_study(database, name))
        with database.storage.engine.connect() as connection:
            find_damage(connection, NAME)
    finally:
        database.storage.engine.dispose()
    assert victim.secret.read_bytes() == b"not yours"
    assert list(victim.secret.parent.iterdir()) == [victim.secret]
    assert victim.secret.stat().st_nlink == 1, "nothing was linked to it"
    assert set(victim.folder.iterdir()) == {victim.folder / "runs", victim.folder / "exported"}
    exported = files_of(victim.folder / "exported")
    assert b"not yours" not in exported.values()
    assert exported.keys() >= kept.keys()
    return refusals


Refused = DamagedRow


def hostile(secret: Path) -> st.SearchStrategy[object]:
    """Values that somebody would try, and any other JSON."""
    paths = st.sampled_from(
        [str(secret), "../elsewhere/secret.safetensors", "../../elsewhere/secret.safetensors", "/etc/hostname", ".", ""]
    )
    numbers = st.sampled_from([-1, 0, 1, 3, 2**31, 2**63, -(2**63), 1e309, float("nan"), -0.5, True, None])
    words = st.sampled_from(["", "\x1b[2J", "x" * 3000, "run", "complete", "a\x00b", "{}", "\ud800"])
    leaves = st.one_of(paths, numbers, words, st.text(max_size=20), st.integers(), st.floats())
    trees = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["artifact_id", "filename", "value", "values", "task"]), inner, max_size=3),
        ),
        max_leaves=6,
    )
    artifacts = st.builds(
        lambda path, name: json.dumps({"artifact_id": path, "filename": name, "mimetype": "a/b", "encoding": None}),
        paths,
        st.sampled_from(["fold0.safetensors", "report.html", "figures.html", str(secret)]),
    )
    return st.one_of(leaves, trees, artifacts)


def changed(tree: object, path: list[int], value: object) -> object:
    """The tree with one of its leaves replaced; `path` chooses which."""
    if isinstance(tree, dict) and tree and path:
        key = sorted(tree)[path[0] % len(tree)]
        return {**tree, key: changed(tree[key], path[1:], value)}
    if isinstance(tree, list) and tree and path:
        i = path[0] % len(tree)
        return [*tree[:i], changed(tree[i], path[1:], value), *tree[i + 1 :]]
    return value


@pytest.mark.timeout(3600)
@settings(
    max_examples=examples(250),  # of each database
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_any_attribute_of_any_value_touches_no_file_of_others_and_ends_in_no_traceback(victim, data):
    url = victim.restore()
    table = data.draw(st.sampled_from(sorted(TABLES)))
    trial = data.draw(st.integers(0, 3))
    key = data.draw(st.sampled_from(TABLES[table][1]))
    if key.startswith("artifacts:"):
        key = "artifacts:" + data.draw(st.sampled_from(["x", str(uuid.UUID(int=7)), str(victim.secret), "../x"]))
    value = data.draw(hostile(victim.secret))
    before = stored(url, table, trial, key)
    if before is not None and data.draw(st.booleans()):
        value = changed(before, data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)), value)
    raw = json.dumps(value)
    if data.draw(st.integers(0, 9)) == 0:
        raw = data.draw(st.sampled_from(["", "{", "[" * 100_000, "nul", "\ufeff{}", '{"a": 1}}']))
    if "\\u0000" in raw or "\\ud800" in raw:
        raw = raw.replace("\\u0000", "").replace("\\ud800", "")
    write(url, table, trial, key, raw)
    attack(victim, url)


def stored(url: str, table: str, trial: int, key: str) -> object:
    owner, _ = TABLES[table]
    ids = {"study_id": "SELECT study_id FROM studies", "trial_id": "SELECT trial_id FROM trials WHERE number = :trial"}
    with create_engine(url, poolclass=NullPool).connect() as connection:
        query = text(f"SELECT value_json FROM {table} WHERE key = :key AND {owner} = ({ids[owner]})")
        row = connection.execute(query, {"key": key, "trial": trial}).first()
    return None if row is None else json.loads(row[0])


def artifact(path: object, name: str = "fold0.safetensors") -> str:
    about = json.dumps({"artifact_id": path, "filename": name, "mimetype": "a/b", "encoding": None})
    return json.dumps(about)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        # Of trials outside of --keep-top: what it names was deleted.
        ("trial_system_attributes", "artifacts:x", lambda victim: artifact(str(victim.secret))),
        ("trial_system_attributes", "artifacts:x", lambda victim: artifact("../../elsewhere/secret.safetensors")),
        ("trial_system_attributes", "artifacts:x", lambda victim: artifact(["a list"])),
        # Of the study: what it names was overwritten with the report.
        ("study_system_attributes", "artifacts:x", lambda victim: artifact(str(victim.secret), "report.html")),
        ("study_system_attributes", "artifacts:x", lambda victim: artifact("../studies.db", "report.html")),
        # Wrong types.
        ("trial_user_attributes", "excess_rise", lambda victim: '"much"'),
        ("trial_user_attributes", "n_lost", lambda victim: '"often"'),
        ("trial_user_attributes", "retry_of", lambda victim: "[]"),
        ("trial_user_attributes", "result", lambda victim: "[1]"),
        ("study_user_attributes", "n_target", lambda victim: '"all"'),
        ("study_user_attributes", "protocol", lambda victim: '"holdout"'),
        ("study_user_attributes", "versions", lambda victim: "7"),
        ("study_user_attributes", "reading:x", lambda victim: "{}"),
        ("study_user_attributes", f"reading:{'0' * 32}", lambda victim: '{"task": "a\\u001b[2J"}'),
        ("study_user_attributes", "weights", lambda victim: "[[]]"),
        ("study_user_attributes", "overrides", lambda victim: '["--storage", "elsewhere"]'),
        ("trial_system_attributes", "constraints:x", lambda victim: '"feasible"'),
        ("trial_system_attributes", "fixed_params", lambda victim: "[1, 2]"),
        ("study_system_attributes", "dashboard:note_ver", lambda victim: '"one"'),
    ],
)
def test_what_somebody_wrote_is_named_and_taken_out(victim, table, key, value):
    url = victim.restore()
    for trial in range(4):
        write(url, table, trial, key, value(victim))
    refusals = attack(victim, url)
    assert refusals
    assert all(NAME in refusal and "doctor --repair" in refusal for refusal in refusals)

    found = run_here("doctor", "--storage", url, cwd=victim.folder)
    assert found.status == 1
    assert f"problem  study {NAME}" in found.out
    repaired = run_here("doctor", "--repair", "--storage", url, cwd=victim.folder)
    assert "taken out" in repaired.out, repaired
    rows = (victim.folder / "runs" / NAME / REMOVED).read_text(encoding="utf-8").splitlines()
    assert {json.loads(row)["row"]["key"] for row in rows} == {key}
    assert json.loads(rows[0])["row"]["value_json"] == value(victim)
    again = run_here("status", "--json", "--storage", url, cwd=victim.folder)
    assert again.status == 0, again
    n_lost = 4 if key in ("result", "excess_rise") else 0
    assert json.loads(again.out)[0]["n_failed"] == n_lost, "a value is not believed without what it rests on"


def test_a_manifest_is_named_and_left(victim):
    url = victim.restore()
    write(url, "study_user_attributes", 0, MANIFEST, '{"task": 7}')
    assert "manifest lacks" in attack(victim, url)[0]
    repaired = run_here("doctor", "--repair", "--storage", url, cwd=victim.folder)
    assert repaired.status == 1
    assert "choose another --study-name" in repaired.out


@pytest.mark.parametrize("number", [[(1, 1)], [(1, 2), (2, 1)], [(0, 3), (3, 2), (2, 0)], [(1, 99)], [(0, 0)]])
def test_a_chain_of_retries_that_never_ends_is_refused(victim, number):
    """It was walked for ever, deaf to SIGTERM."""
    url = victim.restore()
    for trial, before in number:
        write(url, "trial_user_attributes", trial, "retry_of", str(before))
    (refusal, *_) = attack(victim, url)
    assert "retry_of is" in refusal


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET state = 'FINISHED' WHERE number = 1",
        "UPDATE trials SET number = 'one' WHERE number = 1",
        "UPDATE trials SET number = -1 WHERE number = 1",
        "UPDATE trials SET datetime_start = 'some day' WHERE number = 1",
        "UPDATE trials SET datetime_complete = 7 WHERE number = 1",
        "UPDATE trial_values SET value = 7 WHERE trial_id = 1",
        "UPDATE trial_values SET value = 'high' WHERE trial_id = 1",
        "DELETE FROM trial_values WHERE trial_id = 1",
        "UPDATE trial_values SET value_type = 'INF_POS' WHERE trial_id = 1",
        "UPDATE trial_params SET distribution_json = '{}' WHERE trial_id = 1",
        "UPDATE trial_params SET distribution_json = 'x' WHERE trial_id = 1",
        "UPDATE trial_intermediate_values SET intermediate_value = 'high' WHERE trial_id = 1",
        "UPDATE trial_intermediate_values SET step = 'first' WHERE trial_intermediate_value_id = 1",
        "UPDATE trial_user_attributes SET value_json = x'ff' WHERE trial_user_attribute_id = 3",
        "UPDATE trial_user_attributes SET value_json = 7 WHERE key = 'result' AND trial_id = 1",
        "UPDATE trial_user_attributes SET key = CAST(x'ff' AS BLOB) WHERE key = 'worker' AND trial_id = 1",
        "UPDATE trial_user_attributes SET key = NULL WHERE key = 'worker' AND trial_id = 1",
        "UPDATE study_user_attributes SET key = CAST(x'ff' AS BLOB) WHERE key = 'versions'",
        "UPDATE study_user_attributes SET key = NULL WHERE key = 'versions'",
    ],
)
def test_columns_that_hold_what_they_cannot_hold(victim, statement):
    url = victim.restore()
    try:
        execute(url, statement)
    except Exception:
        if make_url(url).get_backend_name() == "sqlite":
            raise
        pytest.skip("Postgres refuses to store that")
    refusals = attack(victim, url)
    assert refusals
    assert all("doctor" in refusal for refusal in refusals)
    assert run_here("doctor", "--storage", url, cwd=victim.folder).status == 1
    run_here("doctor", "--repair", "--storage", url, cwd=victim.folder)
    after = run_here("status", "--json", "--storage", url, cwd=victim.folder)
    assert after.status == 0, after
    assert json.loads(after.out)[0]["n_finished"] >= 3


def test_a_pickle_in_the_place_of_an_optimizer_runs_nothing(victim, tmp_path):
    from search.storage.optuna_internals import _cmaes

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    with pytest.raises(pickle.UnpicklingError, match="no part of a CMA-ES optimizer"):
        _cmaes.pickle.loads(pickle.dumps(Bomb()))
    assert not (tmp_path / "executed").exists()


def test_a_study_of_another_name_is_not_looked_for_on_the_disk(victim):
    url = victim.restore()
    for name in ("../../elsewhere", "/etc", "a b", "x\x1b[2J"):
        execute(url, "INSERT INTO studies (study_name) VALUES (:name)", {"name": name})
    answer = run_here("status", "--storage", url, cwd=victim.folder)
    assert answer.status == 1
    assert NAME in answer.out
    assert answer.err.count("was not made by flipsearch") == 4
    assert "\x1b" not in answer.out + answer.err
    assert (
        "was not made by flipsearch"
        in run_here("report", "--study-name", "../../elsewhere", "--storage", url, cwd=victim.folder).refusal()
    )
    assert list(victim.secret.parent.iterdir()) == [victim.secret]


def test_the_words_of_an_exception_move_no_cursor(victim):
    url = victim.restore()
    write(url, "trial_user_attributes", 1, "reason", json.dumps("first\x1b[2Jlast"))
    database = open_database(url, create=False)
    trials = find_study(database, NAME).get_trials(deepcopy=False)
    assert trials[1].user_attrs["reason"] == "first?[2Jlast"
    assert StudySnapshot.of(find_study(database, NAME)).counts.n_finished == 4
    database.storage.engine.dispose()


@pytest.mark.parametrize("name", ["x'ff1b5b33316d'", "CAST(x'ff1b5b33316d' AS TEXT)"])
def test_a_study_whose_name_is_no_text_hides_no_other(victim, name):
    url = victim.restore()
    if make_url(url).get_backend_name() != "sqlite":
        pytest.skip("Postgres refuses to store that")
    execute(url, f"INSERT INTO studies (study_name) VALUES ({name})")
    every = run_here("status", "--storage", url, cwd=victim.folder)
    assert every.status == 1
    assert NAME in every.out
    assert "was not made by flipsearch" in every.err
    assert "\x1b" not in every.out + every.err
    assert run_here("status", "--study-name", NAME, "--storage", url, cwd=victim.folder).status == 0
    assert run_here(*SEARCH, "--storage", url, cwd=victim.folder).status == 0
    doctor = run_here("doctor", "--storage", url, cwd=victim.folder)
    assert "its name is none that flipsearch gives" in doctor.out
    database = open_database(url, create=False)
    try:
        assert NAME in [study.study_name for study in database.storage.get_all_studies()]
    finally:
        database.storage.engine.dispose()


@pytest.mark.parametrize("beat", ["'some day'", "x'ff'", "7", "CAST(x'ff' AS TEXT)"])
def test_a_heartbeat_that_is_no_time_is_that_of_a_lost_worker(victim, beat):
    url = victim.restore()
    if make_url(url).get_backend_name() != "sqlite":
        pytest.skip("Postgres refuses to store that")
    execute(url, "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 3")
    execute(url, f"UPDATE trial_heartbeats SET heartbeat = {beat}")
    status = run_here("status", "--json", "--study-name", NAME, "--storage", url, cwd=victim.folder)
    assert status.status == 0, status
    assert [worker["lease_age_s"] for worker in json.loads(status.out)["workers"]] == [None]
    assert run_here("doctor", "--storage", url, cwd=victim.folder).status == 0
    search = run_here(*SEARCH, "--storage", url, cwd=victim.folder)
    assert search.status == 0, search
    after = json.loads(run_here("status", "--json", "--study-name", NAME, "--storage", url, cwd=victim.folder).out)
    assert (after["n_finished"], after["n_running"]) == (4, 0)


def test_a_heartbeat_that_is_no_time_does_not_keep_a_worker_from_the_next(victim):
    url = victim.restore()
    if make_url(url).get_backend_name() != "sqlite":
        pytest.skip("Postgres refuses to store that")
    execute(url, "UPDATE trial_heartbeats SET heartbeat = 'some day'")
    database = open_database(url, create=False)
    try:
        database.storage.record_heartbeat(1)
        execute(url, "UPDATE trials SET state = 'RUNNING' WHERE trial_id = 1")
        (age_s,) = lease_ages_s(database.storage, find_study(database, NAME)).values()
        assert age_s < 600
    finally:
        database.storage.engine.dispose()


@pytest.mark.parametrize("number", [2**62, 1])
def test_a_report_of_trials_whose_numbers_are_not_in_a_row(victim, number):
    url = victim.restore()
    if number == 2**62 and make_url(url).get_backend_name() != "sqlite":
        pytest.skip("Postgres refuses to store that")
    execute(url, f"UPDATE trials SET number = {number} WHERE number = 0")
    answer = run_here("report", "--study-name", NAME, "--storage", url, cwd=victim.folder)
    assert answer.status == 0, answer
    assert answer.out == f"Report: runs/{NAME}/report.html\n"


def test_two_trials_of_one_number_are_named_and_the_later_one_gets_its_own(victim):
    url = victim.restore()
    before = json.loads(run_here("status", "--json", "--storage", url, cwd=victim.folder).out)[0]
    execute(url, "UPDATE trials SET number = 1 WHERE number = 2")
    found = run_here("doctor", "--storage", url, cwd=victim.folder)
    assert f"problem  study {NAME}: trial 1: its number is that of an earlier trial too" in found.out
    told = "more than one trial has the number 1; one of each is counted: see `doctor`"
    assert told in run_here("status", "--storage", url, cwd=victim.folder).out
    assert "1 damaged row(s) were taken out" in run_here("doctor", "--repair", "--storage", url, cwd=victim.folder).out
    assert "0 problem(s)" in run_here("doctor", "--storage", url, cwd=victim.folder).out
    again = json.loads(run_here("status", "--json", "--storage", url, cwd=victim.folder).out)[0]
    assert told not in run_here("status", "--storage", url, cwd=victim.folder).out
    assert again["n_failed"] == before["n_failed"] + 1
    assert again["n_finished"] == before["n_finished"] - 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = '{}'",
        "UPDATE alembic_version SET version_num = 'v3.0.0.d'; UPDATE version_info SET library_version = '{}'",
    ],
)
def test_the_version_of_the_tables_moves_no_cursor(victim, statement):
    url = victim.restore()
    for each in statement.format("\x1b[31mx").split("; "):
        execute(url, each)
    for command in ("status", "doctor"):
        answer = run_here(command, "--storage", url, cwd=victim.folder)
        assert answer.status in (1, 2)
        assert "?[31mx" in answer.out + answer.err
        assert "\x1b" not in answer.out + answer.err
