"""Searches as arrays of SLURM: with its own daemons where they are installed, and with a stand-in everywhere."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.cluster.jobs import SlurmJobs
from search.cluster.slurm_script import batch_script
from search.storage.attributes import RETRY_OF
from tests.helpers.answers import run_here
from tests.helpers.postgres import PASSWORD
from tests.helpers.processes import MANY, ROOT, SEARCH, SHORT, STUDY, WAIT_S, let_go, stands_before_its_end
from tests.helpers.slurm import real_slurm, stand_in


@pytest.fixture(scope="module")
def slurm():
    with real_slurm() as cluster:
        yield cluster


@pytest.fixture(params=["slurm", "stand-in"])
def cluster(request, tmp_path):
    found = request.getfixturevalue("slurm") if request.param == "slurm" else stand_in(tmp_path / "cluster")
    yield found
    found.clear()


def call(cluster, folder, *words, **environment):
    """What the program answers in the cluster's environment."""
    command = [sys.executable, str(ROOT / "run_study.py"), *words]
    around = {**os.environ, **cluster.environment, **environment}
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(cluster, folder, n_trials, *options, **environment):
    """Submit the search; returns the array's number."""
    words = [*SEARCH, "--n-trials", str(n_trials), *SHORT, "trainer.threads=1", *options]
    said = call(cluster, folder, "submit", "--slurm", *words, **environment)
    return re.match(rf"Submitted job (\d+): \d+ workers? of study {STUDY}\.", said)[1]


def logs(folder):
    """What the jobs said so far, by their place."""
    return {path.stem: path.read_text() for path in (folder / "runs" / STUDY / "slurm").glob("*/*.log")}


def hold_training(folder):
    """The process that trains a trial of the study in this folder, which stands still until `let_go`."""
    while not stands_before_its_end(pid := wait_for_training(folder)):
        let_go(pid)
        time.sleep(0.02)
    return pid


def wait_for_training(folder):
    """The process that trains a trial of the study in this folder."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                output = (process / "fd" / "1").readlink()
                if output.is_relative_to(folder / "runs" / STUDY) and output.parent.name.startswith("trial-"):
                    return int(process.name)
        time.sleep(0.05)
    raise AssertionError(f"nothing trains: {logs(folder)}")


def wait_for(folder, place, words):
    """Until a job says something."""
    deadline = time.monotonic() + WAIT_S
    while words not in logs(folder).get(place, ""):
        assert time.monotonic() < deadline, logs(folder)
        time.sleep(0.1)


def wait_for_finished(url, n_trials, n_workers=1):
    """Until the study has so many finished trials, or more, by so many workers."""
    deadline = time.monotonic() + WAIT_S
    done = []
    while len(done) < n_trials or len({trial.user_attrs["worker"] for trial in done}) < n_workers:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        done = finished(trials_of(url))


def drain(folder, url):
    """Let workers that have begun end, after the trials that run: there are more than could be waited for."""
    answer = run_here("drain", "--study-name", STUDY, "--storage", url, cwd=folder)
    assert answer.status == 0, answer


def trials_of(url):
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name=STUDY, storage=storage).get_trials(deepcopy=False)
    finally:
        storage.engine.dispose()


def finished(trials):
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


@pytest.mark.parametrize("cluster", ["slurm", pytest.param("stand-in", marks=pytest.mark.smoke)], indirect=True)
def test_an_array_shares_a_study_and_keeps_its_budget(cluster, tmp_path):
    number = submit(cluster, tmp_path, 3, "--jobs", "2", "--cpus", "1", "--setup", "export GREETING='a  b'")
    shown = call(cluster, tmp_path, "submit", "--status")
    assert re.search(rf"^{STUDY} +{number} +2 +\S+ \S+ UTC  .*(pending|running|ended)", shown, re.M)
    cluster.wait_until_ended()
    trials = trials_of(f"sqlite:///{tmp_path}/runs/studies.db")
    assert len(finished(trials)) == len(trials) == 3
    said = logs(tmp_path)
    assert set(said) == {"1", "2"}
    assert all(f"Study {STUDY}: 3 finished trials" in text for text in said.values())
    assert (tmp_path / "experiments" / f"{STUDY}.yaml").exists()
    assert "ended; logs in" in call(cluster, tmp_path, "submit", "--status", "--study-name", STUDY)


def test_the_databases_password_is_in_no_script_and_no_queue(cluster, tmp_path, postgres_url):
    submit(cluster, tmp_path, MANY, "--jobs", "2", FLIPSEARCH_STORAGE=postgres_url)
    wait_for_training(tmp_path)
    wait_for_finished(postgres_url, 2, n_workers=2)
    shown = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert "run_study.py" in shown
    assert f"/{postgres_url.rpartition('/')[2]}" not in shown, "the URL"
    kept = [tmp_path] if "SLURM_CONF" not in cluster.environment else [Path(cluster.environment["SLURM_CONF"]).parent]
    for path in [file for folder in kept for file in folder.rglob("*") if file.is_file() and file.name != "storage"]:
        with contextlib.suppress(FileNotFoundError):
            assert PASSWORD.encode() not in path.read_bytes(), path
    drain(tmp_path, postgres_url)
    cluster.wait_until_ended()
    trials = trials_of(postgres_url)
    assert len(finished(trials)) == len(trials)
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert [path.name for path in holding] == ["storage"]
    assert holding[0].stat().st_mode & 0o777 == 0o600


SECRET = "planted-of-aws"


def test_secrets_of_the_environment_can_be_kept_from_slurm(slurm, tmp_path):
    kept = Path(slurm.environment["SLURM_CONF"]).parent

    def holding():
        files = [path for path in kept.rglob("*") if path.is_file()]
        return [path.name for path in files if SECRET.encode() in path.read_bytes()]

    first = submit(slurm, tmp_path, 1, "--sbatch=--hold", "--sbatch=--export=PATH,HOME", AWS_SECRET_ACCESS_KEY=SECRET)
    assert holding() == []
    second = submit(slurm, tmp_path, 1, "--sbatch=--hold", AWS_SECRET_ACCESS_KEY=SECRET)
    assert holding() == ["environment"], "which docs/security.md says"
    slurm.command("scancel", second)
    slurm.command("scontrol", "release", first)
    slurm.wait_until_ended()
    assert len(finished(trials_of(f"sqlite:///{tmp_path}/runs/studies.db"))) == 1


def test_a_job_near_its_limit_finishes_its_trial_and_is_queued_again(cluster, tmp_path):
    number = submit(cluster, tmp_path, MANY, "--drain-time", "20m")
    child = hold_training(tmp_path)
    cluster.warn(f"{number}_1")
    wait_for(tmp_path, "1", "the time limit is near: trials that run have 1170 s to finish, none is started")
    let_go(child)
    wait_for(tmp_path, "1", "back into the queue, to go on with the study")
    url = f"sqlite:///{tmp_path}/runs/studies.db"
    wait_for_finished(url, len(finished(trials_of(url))) + 1)
    drain(tmp_path, url)
    cluster.wait_until_ended()
    trials = trials_of(url)
    assert len(finished(trials)) == len(trials), "no trial was stopped half way"


def test_a_trial_that_cannot_finish_in_time_is_stopped_and_run_again(cluster, tmp_path):
    number = submit(cluster, tmp_path, MANY, "--drain-time", "45s")
    hold_training(tmp_path)
    cluster.warn(f"{number}_1")
    wait_for(tmp_path, "1", "back into the queue, to go on with the study")
    assert "trials that still run are stopped, and run again" in logs(tmp_path)["1"]
    url = f"sqlite:///{tmp_path}/runs/studies.db"
    wait_for_finished(url, len(finished(trials_of(url))) + 1)
    drain(tmp_path, url)
    cluster.wait_until_ended()
    trials = trials_of(url)
    assert len(finished(trials)) == len(trials) - 1
    assert [trial.state for trial in trials if RETRY_OF in trial.user_attrs] == [TrialState.COMPLETE]


def test_a_cancelled_job_stays_cancelled_and_its_trial_is_run_again(cluster, tmp_path):
    submit(cluster, tmp_path, MANY)
    wait_for_training(tmp_path)
    said = call(cluster, tmp_path, "submit", "--cancel", "--study-name", STUDY)
    assert re.match(rf"Cancelled \d+ of study {STUDY}: ", said)
    cluster.wait_until_ended()
    assert "back into the queue" not in logs(tmp_path)["1"]
    assert "SLURM ends this job; what it had not finished is run by other workers" in logs(tmp_path)["1"]
    assert call(cluster, tmp_path, "submit", "--cancel", "--study-name", STUDY).startswith("No job of study")
    url = f"sqlite:///{tmp_path}/runs/studies.db"
    n_before = len(finished(trials_of(url)))
    submit(cluster, tmp_path, n_before + 2)
    cluster.wait_until_ended()
    assert len(finished(trials_of(url))) == n_before + 2


WORKER = """\
import pathlib, signal, sys, time
if pathlib.Path("told").exists():
    print("went on", flush=True)
    sys.exit(0)
def leave(*_):
    pathlib.Path("told").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, leave)
time.sleep(600)
"""


def test_slurms_own_clock_warns_the_script_in_time(slurm, tmp_path):
    """The limit is a minute, less than which SLURM does not take."""
    jobs = SlurmJobs(
        study="limit",
        words=["-c", WORKER],
        program=[sys.executable],
        directory=tmp_path,
        folder=tmp_path,
        environment={},
        has_storage_file=False,
        drain_s=45,
        time_s=60,
    )
    script = tmp_path / "job.sh"
    script.write_text(batch_script(jobs))
    slurm.command("sbatch", str(script))
    slurm.wait_until_ended()
    said = (tmp_path / "1.log").read_text()
    assert "back into the queue" in said
    assert said.endswith("went on\n")
