"""The doctor finds what is wrong and says what to do; it changes and downloads nothing."""

import json
import shutil
import zipfile

import optuna
import pynvml
import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from sqlalchemy.engine import make_url

import search.doctor.machine
from datasets.common.errors import UserError
from search.doctor.database import check_database
from search.doctor.finding import Diagnosis
from search.doctor.inputs import check_weights_dir
from search.doctor.machine import check_disk, check_gpus, check_packages, check_torch
from search.storage.attributes import MANIFEST, DamagedRow
from search.study.snapshot import StudySnapshot
from search.study.study import find_study, open_study
from tests.helpers import nvml
from tests.helpers.closed_folders import closed
from tests.helpers.nvml import FakeGpu
from tests.helpers.small_study import ABOUT, NAME, add, default_database, make_study
from tests.integration.test_startup import probe


@pytest.fixture(autouse=True)
def no_files_of_this_machine(monkeypatch, tmp_path_factory):
    """Neither data nor caches but those that a test puts there."""
    for name in ("FLIPSEARCH_DATA", "FLIPSEARCH_STORAGE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def of(findings, check):
    return [finding for finding in findings if finding.check == check]


def levels(findings):
    return [finding.level for finding in findings]


def test_where_all_is_well_it_says_so_and_writes_nothing(command, tmp_path):
    answer = command("doctor")
    lines = answer.out.splitlines()
    assert (answer.status, answer.err) == (0, "")
    assert lines[-1].startswith("0 problem(s)")
    checks = {line.split(maxsplit=1)[1].partition(":")[0] for line in lines[:-1]}
    assert {"python", "packages", "torch", "gpu", "disk", "data", "weights", "database"} <= checks
    assert "there is no" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_json_holds_the_same(command, finished_study):
    storage = f"sqlite:///{finished_study.database}"
    found = json.loads(command("doctor", "--json", "--storage", storage).out)
    assert found["n_problems"] == 0
    assert set(found["findings"][0]) == {"check", "level", "text", "remedy"}
    (study,) = [finding for finding in found["findings"] if finding["check"] == f"study {finished_study.name}"]
    assert study == {
        "check": f"study {finished_study.name}",
        "level": "ok",
        "text": "2 trial(s), none without its worker",
        "remedy": "",
    }
    assert f"study {finished_study.name}: 2 trial(s)" in command("doctor", "--storage", storage).out


@pytest.mark.parametrize(
    ("words", "variable", "check"),
    [
        (("--weights-dir", "closed/x"), "", "weights"),
        ((), "TORCH_HOME", "weights"),
        (("--data-dir", "closed/x"), "", "data"),
        ((), "XDG_CACHE_HOME", "disk"),
        (("--storage", "sqlite:///closed/x.db"), "", "database"),
    ],
)
def test_a_folder_that_this_user_may_not_enter_is_a_finding(command, tmp_path, monkeypatch, words, variable, check):
    (tmp_path / "closed").mkdir()
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "closed" / "x"))
    with closed(tmp_path / "closed"):
        answer = command("doctor", "--json", *words)
    assert answer.status == 1, answer
    problems = [found for found in json.loads(answer.out)["findings"] if found["level"] == "problem"]
    assert check in [found["check"] for found in problems]
    for found in problems:
        assert "closed/x" in found["text"]
        assert found["text"].endswith("(Permission denied)")


def test_torch_is_not_imported(tmp_path):
    status, out, err, imported = probe(["doctor"], tmp_path)
    assert status == 0, out + err
    assert "torch" not in imported
    assert "lightning" not in imported


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "gb1_two_vs_ret"), "Did you mean 'gb1_two_vs_rest'"),
        (("--weights-dir", "nowhere"), "--weights-dir nowhere is not a folder"),
        (("--data-dir", "nowhere"), "The data folder nowhere does not exist"),
        (("--storage", "mysql://host/name"), "is of a kind that is not known here"),
        (("--jsn",), "Did you mean '--json'?"),
        (("everything",), "takes no 'everything'"),
    ],
)
def test_bad_input_is_no_finding(command, words, said):
    assert said in command("doctor", *words).refusal()


def installation(folder, *requirements, pins=""):
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = [{listed}]\n")
    (folder / "constraints.txt").write_text("# tried together\n" + pins)
    return folder


def test_packages_that_are_missing_outside_of_their_range_or_others_than_those_tried(tmp_path):
    root = installation(
        tmp_path, "optuna>=1", "filelock>=999", "no-such-package>=1", "SQLAlchemy>=1", pins="sqlalchemy==1.0\n"
    )
    old, missing, other = check_packages(root)
    assert old.level == missing.level == "problem"
    assert old.text.startswith("filelock")
    assert old.text.endswith("(expected >=999)")
    assert missing.text == "no-such-package is missing (expected >=1)"
    assert other.level == "warning"
    assert "sqlalchemy" in other.text.lower()
    assert "(tried: 1.0)" in other.text
    assert all("make .venv" in finding.remedy for finding in (old, missing, other))
    version = optuna.__version__
    assert levels(check_packages(installation(tmp_path, "optuna>=1", pins=f"optuna=={version}\n"))) == ["ok"]


def test_a_folder_that_cannot_be_written_and_a_disk_that_is_full(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    finding = check_disk(tmp_path / "file" / "runs", "name another with --runs-dir")
    assert finding.level == "problem"
    assert "cannot be written" in finding.text
    assert finding.remedy == "name another with --runs-dir"
    for gib, level in ((0.5, "problem"), (5, "warning"), (50, "ok")):
        usage = shutil.disk_usage(tmp_path)._replace(free=int(gib * 2**30))
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        found = check_disk(tmp_path / "not" / "there" / "yet", "")
        assert (found.level, f"{gib:.1f} GiB free" in found.text) == (level, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gpus_and_what_torch_can_do_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(search.doctor.machine, "visible_gpus", lambda: ())
    nvml.install(monkeypatch, error=pynvml.NVMLError_LibraryNotFound)
    assert [(found.level, found.text) for found in check_gpus()] == [("ok", "no NVIDIA GPU: trials train on the CPU")]
    assert check_torch().level == "ok"
    both = (FakeGpu(used_mib=10, total_mib=100), FakeGpu(used_mib=90, total_mib=100), FakeGpu())
    nvml.install(monkeypatch, *both)
    free, taken, silent = check_gpus()
    assert (free.level, free.text) == ("ok", "0, H100, driver 580.95.05, 90 of 100 MiB free")
    assert taken.level == "warning"
    assert (silent.level, silent.text) == ("ok", "2, H100, driver 580.95.05")
    nvml.install(monkeypatch, error=pynvml.NVMLError_DriverNotLoaded)
    program = tmp_path / "nvidia-smi"
    program.touch()
    program.chmod(0o755)
    assert levels(check_gpus()) == ["warning"]
    monkeypatch.setattr(search.doctor.machine, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(search.doctor.machine, "_cuda_of_torch", lambda: None)
    assert (check_torch().level, "build for CUDA" in check_torch().remedy) == ("warning", True)


def a_file(folder, dataset, **splits):
    path = folder / dataset / "splits.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in splits.items():
            archive.writestr(f"splits/{name}.csv", content)
    return path


def test_data_that_is_missing_is_not_flips_or_lacks_the_split(command, tmp_path):
    path = a_file(tmp_path / "files", "gb1", sampled="sequence,target,set,validation\nAC,1,train,\n")
    words = ("doctor", "--data-dir", str(tmp_path / "files"))
    answer = command(*words)
    assert answer.status == 0
    assert f"warning  data: gb1: not FLIP's file, {path}; every result on it says so" in answer.out
    assert "ok       data: aav is not on this machine: the first search on it downloads it" in answer.out
    assert "problem" not in command(*words, "--task", "gb1_sampled").out.replace("0 problem(s)", "")
    answer = command(*words, "--task", "gb1_two_vs_rest")
    assert answer.status == 1
    assert "holds no split 'two_vs_rest'; those it has are: sampled" in answer.out
    assert "warning  data: aav is not on this machine" in command(*words, "--task", "aav_sampled").out
    assert "ok       data: synthetic needs no file" in command(*words, "--task", "synthetic_one_vs_rest").out
    path.write_text("no zip")
    assert command(*words, "--task", "gb1_sampled").status == 1


def test_weights_that_are_here_or_cut_short_and_what_downloads_left(tmp_path, monkeypatch):
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (none,) = check_weights_dir(None)
    assert (none.level, f"none in {hub}" in none.text) == ("ok", True)
    (hub / "esm2_t6_8M_UR50D.pt").write_bytes(bytes(2**20))
    own = tmp_path / "own"
    own.mkdir()
    (own / "esm2_t12_35M_UR50D.pt").write_bytes(b"<html>")
    (hub / ".esm2_t30_150M_UR50D" / ".partial").mkdir(parents=True)
    (hub / ".esm2_t30_150M_UR50D" / ".partial" / "esm2_t30_150M_UR50D.pt").write_bytes(bytes(3 * 2**20))
    short, listed, partial = check_weights_dir(own)
    assert (short.level, "esm2_t12_35M_UR50D.pt has 6 bytes" in short.text) == ("problem", True)
    assert listed.text == f"esm2_t6_8M_UR50D in {hub}, esm2_t12_35M_UR50D in {own}"
    assert (partial.level, "holds 3 MiB" in partial.text) == ("warning", True)


def check(url):
    return list(check_database(make_url(url)))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.system
def test_trials_without_a_worker_and_manifests_that_cannot_be_read(kind, tmp_path, request):
    url = default_database(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres_url")
    database, study = make_study(url)
    fresh, stale = add(study, TrialState.RUNNING), add(study, TrialState.RUNNING, attributes={"worker": "node7:1"})
    ids = {trial.number: trial._trial_id for trial in study.get_trials(deepcopy=False)}
    for number in (fresh, stale):
        database.storage.record_heartbeat(ids[number])
    hour = "datetime(heartbeat, '-1 hour')" if kind == "sqlite" else "heartbeat - interval '1 hour'"
    with database.storage.engine.begin() as connection:
        change = text(f"UPDATE trial_heartbeats SET heartbeat = {hour} WHERE trial_id = :id")
        connection.execute(change, {"id": ids[stale]})
    for name in ("foreign", "empty", "cut-short"):
        other = optuna.create_study(storage=database.storage, study_name=name, direction="maximize")
        if name == "foreign":
            add(other, TrialState.COMPLETE, value=1.0)
        elif name == "cut-short":
            other.set_user_attr(MANIFEST, {"task": "gb1_sampled"})
    other = optuna.create_study(storage=database.storage, study_name="no-json", direction="maximize")
    other.set_user_attr(MANIFEST, {})
    with database.storage.engine.begin() as connection:
        where = "study_id = (SELECT study_id FROM studies WHERE study_name = 'no-json')"
        connection.execute(text(f"UPDATE study_user_attributes SET value_json = '{{oops' WHERE {where}"))

    findings = check(url)

    assert levels(of(findings, "database")) == ["ok", "ok"]
    assert levels(of(findings, "clocks")) == (["ok"] if kind == "postgres" else [])
    (found,) = of(findings, f"study {NAME}")
    assert found.level == "warning"
    assert found.text == f"trial {stale} is running, but the last heartbeat of node7:1 was 1:00:0{found.text[-5]} ago"
    assert "runs it again" in found.remedy
    assert levels(of(findings, "study empty")) == ["ok"]
    problems = {finding.check: finding.text for finding in findings if finding.level == "problem"}
    assert set(problems) == {"study foreign", "study cut-short", "study no-json"}
    assert "flipsearch did not make it" in problems["study foreign"]
    assert "lacks model, data_hash" in problems["study cut-short"]
    assert problems["study no-json"] == "manifest holds {oops, expected JSON"


def test_an_empty_postgres_is_left_empty(postgres, postgres_url):
    database, clocks = check(postgres_url)
    assert (database.level, clocks.level) == ("ok", "ok")
    assert database.text.endswith("it is empty, the first search makes its tables")
    assert "planted-s3cret" not in database.text
    with postgres.connect(make_url(postgres_url).database) as connection:
        assert connection.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'").fetchall() == []


def test_a_database_that_refuses_us_is_a_problem_without_its_password(postgres, tmp_path, command, monkeypatch):
    name = postgres.create_database()
    monkeypatch.setenv("FLIPSEARCH_STORAGE", postgres.url(name, password="an0ther-s3cret"))
    answer = command("doctor")
    assert answer.status == 1
    (line,) = [line for line in answer.out.splitlines() if line.startswith("problem")]
    assert "password authentication failed" in line
    assert "an0ther-s3cret" not in answer.out + answer.err

    make_study(postgres.url(name))
    with postgres.connect(name) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reads'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    try:
        (found,) = check(postgres.url(name).replace("searcher:planted-s3cret", "reader:reads"))
    finally:
        with postgres.connect(name) as connection:
            connection.execute("DROP OWNED BY reader")
            connection.execute("DROP ROLE reader")
    assert (found.level, "permission denied" in found.text) == ("problem", True)


def test_another_schema_is_a_problem_and_stays_as_it_is(tmp_path):
    url = default_database(tmp_path)
    database, _ = make_study(url)
    with database.storage.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.9.0.a'"))
    database.storage.engine.dispose()
    (found,) = check(url)
    assert found.level == "problem"
    assert "v9.9.0.a" in found.text
    with database.storage.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "v9.9.0.a"


def test_a_line_has_its_remedy_at_the_end():
    assert Diagnosis(check="disk", level="ok", text="fine").line() == "ok       disk: fine"
    assert Diagnosis(check="disk", level="warning", text="so so", remedy="do").line() == "warning  disk: so so; do"


def test_a_heartbeat_of_this_very_second_is_one(tmp_path):
    database, study = make_study(default_database(tmp_path))
    number = add(study, TrialState.RUNNING)
    (trial,) = study.get_trials(deepcopy=False)
    with database.storage.engine.begin() as connection:
        began = "UPDATE trials SET datetime_start = datetime(datetime_start, '-1 hour')"
        connection.execute(text(began))

    def beat_age_s():
        database.storage.record_heartbeat(trial._trial_id)
        (running,) = StudySnapshot.of(study, database).running
        return running.lease_age_s, running.silent_s, running.running_s

    # The clock of SQLite has whole seconds: an age of exactly 0.0 is common, and comes within some looks.
    ages = iter(beat_age_s, None)
    age_s, silent_s, running_s = next(found for found in ages if found[0] == 0.0)
    assert (age_s, silent_s, number) == (0.0, 0.0, 0)
    assert running_s > 3500
    database.storage.record_heartbeat(trial._trial_id)
    assert levels(of(check(default_database(tmp_path)), f"study {NAME}")) == ["ok"]


def test_a_manifest_that_cannot_be_repaired_is_not_said_to_be(tmp_path):
    url = default_database(tmp_path)
    database, study = make_study(url)
    study.set_user_attr(MANIFEST, {})
    with pytest.raises(DamagedRow, match="which cannot be repaired: choose another --study-name") as refused:
        _ = find_study(database, NAME).user_attrs
    assert "--repair" not in str(refused.value)
    found = of(check_database(make_url(url), tmp_path), f"study {NAME}")
    assert (levels(found), found[0].remedy) == (["problem"], "searches refuse it: choose another --study-name")
    study.set_user_attr("n_target", "all")
    found = of(check_database(make_url(url), tmp_path), f"study {NAME}")
    assert levels(found) == ["ok", "problem"]
    assert found[0].text.startswith("1 damaged row(s) were taken out")


def test_a_study_that_could_not_be_read_is_not_made(tmp_path):
    database, _ = make_study(default_database(tmp_path))
    table = {"target_column": "a\tb", "split": None, "wild_type": None}
    with pytest.raises(UserError, match=r"'mine' cannot be kept in the database: manifest\.table\.target_column is"):
        open_study(database, "mine", {**ABOUT, "table": table})
    assert database.storage.study_names() == [NAME]
    open_study(database, "mine", {**ABOUT, "table": {**table, "target_column": "a"}})


def test_a_trial_without_a_heartbeat_is_aged_from_its_start(tmp_path):
    database, study = make_study(default_database(tmp_path))
    add(study, TrialState.RUNNING)
    with database.storage.engine.begin() as connection:
        connection.execute(text("UPDATE trials SET datetime_start = datetime(datetime_start, '-1 hour')"))
    (found,) = of(check(default_database(tmp_path)), f"study {NAME}")
    assert found.level == "warning"
    assert "was 1:00:" in found.text
