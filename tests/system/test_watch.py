"""`status --watch` and the workers in `status --json`: what a person sees of a study as it goes on."""

import datetime
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError

import optuna
import pynvml
import pytest
from optuna import Study
from optuna.trial import TrialState, create_trial

from search.cli.studies.watch import as_lines, look
from search.machine.hardware import Gpu, find_gpus
from search.storage.attributes import HOURS
from search.storage.rows.heartbeats import lease_ages_s
from search.study.activity import rate_per_hour, remaining_s
from search.study.control import set_control
from search.study.snapshot import StudySnapshot
from search.study.study import find_study
from tests.helpers import nvml
from tests.helpers.nvml import FakeGpu
from tests.helpers.processes import ROOT
from tests.helpers.small_study import NAME, add, default_database, make_study

NOON = datetime.datetime(2026, 1, 1, 12)
NAME_OF_GPU = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def worked_on(tmp_path):
    """A study with a finished trial, and one that runs in its second fold."""
    database, study = make_study(default_database(tmp_path))
    add(study, TrialState.COMPLETE, value=0.8, attributes={"ending": "complete"})
    attributes = {"worker": "node7:123", "slot": "cuda:1"}
    number = add(study, TrialState.RUNNING, attributes=attributes, intermediate={3: 0.1, 14: 0.25})
    database.storage.record_heartbeat(study.get_trials(deepcopy=False)[number]._trial_id)
    return database, study


@pytest.fixture
def gpus(monkeypatch):
    """Two, of which one is divided, so that the driver does not say how much is used."""
    used = FakeGpu(name=NAME_OF_GPU, percent=97, used_mib=40960, total_mib=81559)
    nvml.install(monkeypatch, used, FakeGpu(name=NAME_OF_GPU))


def finished(begin_s, end_s, state=TrialState.PRUNED):
    trial = create_trial(state=state, value=None)
    trial.datetime_start = NOON + datetime.timedelta(seconds=begin_s)
    trial.datetime_complete = None if end_s is None else NOON + datetime.timedelta(seconds=end_s)
    return trial


def running(begin_s):
    return finished(begin_s, None, TrialState.RUNNING)


def test_the_rate_is_that_of_the_last_trials_while_somebody_worked():
    assert rate_per_hour([]) is None
    assert rate_per_hour([finished(0, 60)]) == 60
    one_by_one = [finished(60 * i, 60 * i + 60) for i in range(5)]
    assert rate_per_hour(one_by_one) == pytest.approx(60)
    two_at_a_time = [finished(60 * i, 60 * i + 60 + offset) for i in range(5) for offset in (0, 0.001)]
    assert rate_per_hour(two_at_a_time) == pytest.approx(120, rel=0.2)
    a_day_later = [finished(60 * i + 86400, 60 * i + 86460) for i in range(5)]
    assert rate_per_hour(one_by_one + a_day_later) == pytest.approx(60)
    # A trial that failed took its time as well; old and slow ones are forgotten.
    assert rate_per_hour([*one_by_one, finished(300, 540, TrialState.FAIL), finished(540, 600)]) == pytest.approx(
        33, 0.1
    )
    slow = [finished(3600 * i, 3600 * i + 3600) for i in range(5)]
    assert rate_per_hour(slow + [finished(86400 + 60 * i, 86460 + 60 * i) for i in range(20)]) == pytest.approx(60)


def test_what_remains_is_known_only_while_somebody_works():
    done = [finished(60 * i, 60 * i + 60) for i in range(5)]
    assert remaining_s([*done, running(300)], 3) == pytest.approx(180)
    assert remaining_s(done, 3) is None
    assert remaining_s([running(0)], 3) is None


def test_a_running_trial_is_shown_with_fold_epoch_value_and_lease(worked_on):
    database, study = worked_on
    (trial,) = StudySnapshot.of(study, database).running
    assert (trial.worker, trial.slot, trial.trial) == ("node7:123", "cuda:1", 1)
    assert (trial.fold, trial.epoch, trial.value) == (1, 3, 0.25)  # the 14th validation of folds of 10 epochs
    assert 0 <= trial.lease_age_s < 20
    assert 0 <= trial.running_s < 60


def test_a_view_reads_the_heartbeats_and_then_the_trials_each_once(worked_on, monkeypatch):
    database, study = worked_on
    asked = []

    def noted(name, read):
        monkeypatch.setattr(
            f"search.study.snapshot.{name}" if name == "lease_ages_s" else f"optuna.Study.{name}",
            lambda *arguments, **more: asked.append(name) or read(*arguments, **more),
        )

    noted("lease_ages_s", lease_ages_s)
    noted("get_trials", Study.get_trials)
    now = look(database, study)
    assert asked == ["lease_ages_s", "get_trials"], "a trial that ends in between is not taken for a silent one"
    assert len(now.running) == 1
    asked.clear()
    standing = StudySnapshot.of(study)
    assert (standing.counts.n_running, standing.n_left, standing.has_all) == (1, 9, False)
    assert standing.best_words == ["best 0.8000 (trial 0)"]
    assert standing.summary["n_waiting"] == 0
    assert asked == ["get_trials"]
    with pytest.raises(FrozenInstanceError):
        standing.trials = ()


def test_json_has_control_and_workers_beside_what_it_always_had(worked_on, command):
    _, study = worked_on
    set_control(study, "pause")
    found = json.loads(command("status", "--study-name", NAME, "--json").out)
    assert found["control"] == "pause"
    (worker,) = found["workers"]
    keys = {"worker", "slot", "trial", "fold", "epoch", "value", "running_s", "lease_age_s"}
    assert set(worker) == keys
    assert (found["n_finished"], found["n_running"], found["best"]["value"]) == (1, 1, 0.8)


def test_gpus_are_those_of_the_driver(gpus, monkeypatch):
    about = {"name": NAME_OF_GPU, "driver": "580.95.05"}
    nothing = {"utilization_percent": None, "used_mib": None, "total_mib": None}
    assert find_gpus() == [
        Gpu(index=0, **about, utilization_percent=97, used_mib=40960, total_mib=81559),
        Gpu(index=1, **about, **nothing),
    ]
    for error in (pynvml.NVMLError_DriverNotLoaded, pynvml.NVMLError_LibraryNotFound):
        nvml.install(monkeypatch, FakeGpu(), error=error)
        assert find_gpus() == []


def test_the_view_as_lines(worked_on, gpus):
    database, study = worked_on
    lines = [line.partition(" ")[2] for line in as_lines(look(database, study)).splitlines()]
    assert lines[0] == f"Study {NAME}: 1/10 finished (0 pruned), 0 failed, 1 running, 0 queued"
    assert lines[1] == "synthetic_two_vs_rest (synthetic landscape)"
    assert lines[2] == "best 0.8000 (trial 0)"
    assert lines[3].startswith("node7:123, slot cuda:1, trial 1, fold 1, epoch 3, value 0.2500, running 0:0")
    assert lines[3].endswith(" s ago")
    assert lines[4] == "GPU 0, NVIDIA H100 80GB HBM3, 97 %, 40,960 of 81,559 MiB"
    assert lines[5] == "GPU 1, NVIDIA H100 80GB HBM3, -, -"
    study.set_user_attr(HOURS, {"core": 40})
    assert "used 0.00 of 40 core-hours" in as_lines(look(database, study)).splitlines()[3]
    set_control(study, "drain")
    assert "Draining: no trial is started" in as_lines(look(database, study))


def watching(folder, *words, stdout):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_study.py"), "status", "--watch", "--interval", "0.2", *words],
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
    )


def read_until(stream, words, timeout_s=300):
    """What the stream said up to these words."""
    said, deadline = b"", time.monotonic() + timeout_s
    while words not in said:
        assert time.monotonic() < deadline, said
        if select.select([stream], [], [], 1.0)[0]:
            said += os.read(stream, 65536)
    return said


def test_a_pipe_gets_lines_again_and_again_until_ctrl_c(worked_on, tmp_path):
    _, study = worked_on
    process = watching(tmp_path, stdout=subprocess.PIPE)
    said = read_until(process.stdout.fileno(), b"1/10 finished")
    assert b"\x1b" not in said
    add(study, TrialState.COMPLETE, value=0.9)
    read_until(process.stdout.fileno(), b"best 0.9000 (trial 2)")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert b"Traceback" not in rest


def test_a_terminal_gets_a_table_and_its_cursor_back(worked_on, tmp_path):
    ours, theirs = pty.openpty()
    process = watching(tmp_path, "--study-name", NAME, stdout=theirs)
    os.close(theirs)
    said = read_until(ours, b"cuda:1")
    assert b"\x1b[?25l" in said, "the cursor is hidden meanwhile"
    process.send_signal(signal.SIGTERM)
    assert b"\x1b[?25h" in read_until(ours, b"\x1b[?25h")
    assert process.wait(120) == 143
    os.close(ours)


def test_a_study_that_is_deleted_meanwhile_ends_the_watch(worked_on, tmp_path):
    _, study = worked_on
    process = watching(tmp_path, stdout=subprocess.PIPE)
    read_until(process.stdout.fileno(), b"1/10 finished")
    optuna.delete_study(study_name=NAME, storage=study._storage)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"Study {NAME!r} is no longer in".encode() in said
    assert b"Traceback" not in said


def test_an_outage_is_shown_with_how_the_study_stood_before(postgres, tmp_path, monkeypatch):
    name = postgres.create_database()
    _, study = make_study(postgres.url(name))
    add(study, TrialState.COMPLETE, value=0.8)
    monkeypatch.setenv("FLIPSEARCH_STORAGE", postgres.url(name))
    process = watching(tmp_path, stdout=subprocess.PIPE)
    try:
        read_until(process.stdout.fileno(), b"1/10 finished")
        postgres.stop()
        said = read_until(process.stdout.fileno(), b"does not answer since")
        said += read_until(process.stdout.fileno(), b"1/10 finished")
        postgres.start()
        add(study, TrialState.COMPLETE, value=0.9)
        said += read_until(process.stdout.fileno(), b"2/10 finished")
    finally:
        process.kill()
        process.communicate()
    assert b"planted-s3cret" not in said


def test_what_to_watch_has_to_be_one_study(worked_on, command):
    database, _ = worked_on
    optuna.create_study(storage=database.storage, study_name="another", direction="maximize")
    assert "(there are: another, by-hand)" in command("status", "--watch").refusal()
    assert "There is no study 'by-hnd'" in command("status", "--watch", "--study-name", "by-hnd").refusal()
    assert "--interval is how often --watch looks" in command("status", "--interval", "2").refusal()
    assert "expected seconds from 0.1 to 3600" in command("status", "--watch", "--interval", "0").refusal()
    assert "not allowed with" in command("status", "--watch", "--json").refusal()
    assert find_study(database, "another").get_trials() == []
