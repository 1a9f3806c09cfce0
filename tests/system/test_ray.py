"""Workers in a Ray cluster: the budget stays exact, the numbers stay the same, and nothing waits in silence."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.helpers.answers import run_here
from tests.helpers.postgres import PASSWORD, PostgresServer
from tests.helpers.processes import (
    LONG,
    MANY,
    ROOT,
    STUDY,
    WAIT_S,
    Search,
    finish,
    interrupt,
    is_alive,
    let_go,
    parent,
    search_here,
    stands_before_its_end,
    start,
    start_with_short_lease,
    status,
    trial_of,
    trials,
    wait_until,
)
from tests.helpers.ray_cluster import ENVIRONMENT, NEEDS_RAY, FakeCluster, in_session, odd_node, ray_workers, words_of
from tests.helpers.short_leases import short_leases

pytestmark = [pytest.mark.timeout(1200), NEEDS_RAY]
QUICK = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "trainer.threads=1", "validation=holdout")


@pytest.fixture(autouse=True)
def known_environment(monkeypatch):
    """No test asks a cluster, or a token, of whoever runs it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes besides the head: two cores and no GPU, and a made-up GPU on each of two."""
    cluster = FakeCluster()
    cluster.add(1)
    cluster.add(1, gpus=1)
    cluster.add(1, gpus=1)
    yield cluster
    cluster.close()


def on_ray(cluster, *more, threads=1):
    return ("--engine", "ray", "--address", cluster.address, f"trainer.threads={threads}", *more)


def search_quickly(folder, *words):
    """A search of few seconds to its end."""
    folder.mkdir(exist_ok=True)
    return finish(Search([sys.executable, str(ROOT / "run_study.py"), *QUICK, "--study-name", STUDY, *words], folder))


def origins(folder):
    """Of the finished trials, what each is a repetition of."""
    found, finished = trials(folder), []
    for trial in found:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            while "retry_of" in trial.user_attrs:
                trial = found[trial.user_attrs["retry_of"]]
            finished.append(trial.number)
    return finished


def check_budget(folder, n_trials):
    found = status(folder)
    assert (found["n_finished"], found["n_running"]) == (n_trials, 0)
    assert len(set(origins(folder))) == n_trials, "a trial and its repetition were both counted"
    assert (folder / "experiments" / f"{STUDY}.yaml").exists()


def a_training_worker(process, leader):
    """A worker whose trial trains, and the process that trains it."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for pid in in_session(leader):
            if trial_of(pid) is not None:
                with contextlib.suppress(OSError):
                    worker = parent(parent(pid))
                    if worker in ray_workers(leader):
                        return worker, pid
        time.sleep(0.05)
    raise AssertionError(f"nothing trains: {process.said()}")


def hold_a_training_worker(process, leader):
    """The same, where the process stands still until `let_go`: between two trials its worker would lose none."""
    while True:
        worker, pid = a_training_worker(process, leader)
        if stands_before_its_end(pid):
            return worker, pid
        let_go(pid)
        time.sleep(0.05)


def variables(pid):
    return dict(
        word.split("=", 1) for word in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0") if "=" in word
    )


def n_losses(folder):
    return sum("retry_of" in trial.user_attrs for trial in trials(folder))


def slots(folder):
    return {trial.user_attrs.get("slot") for trial in trials(folder)} - {None}


def test_the_budget_is_exact_whatever_becomes_of_workers_actors_and_nodes(tmp_path):
    cluster = FakeCluster()
    try:
        cluster.add(1)
        second = cluster.add(1)
        leader = cluster.process.pid
        process = start_with_short_lease(tmp_path, MANY, *on_ray(cluster, "--workers", "auto"))
        wait_until(process, lambda: len(ray_workers(leader)) == 2)

        worker, child = hold_a_training_worker(process, leader)
        os.kill(worker, signal.SIGKILL)
        let_go(child)
        wait_until(process, lambda: "ended by signal 9; it is started again" in process.said())

        worker, child = hold_a_training_worker(process, leader)
        os.kill(parent(worker), signal.SIGKILL)  # its actor, which Ray starts again
        let_go(child)
        wait_until(process, lambda: "together with its Ray actor or its node" in process.said())
        wait_until(process, lambda: not is_alive(worker))  # nobody is left who would know of it

        wait_until(process, lambda: len(ray_workers(leader)) == 2)
        cluster.remove(second)
        wait_until(process, lambda: len(ray_workers(leader)) == 1)
        cluster.add(2)
        wait_until(process, lambda: len(ray_workers(leader)) == 3)  # one more than before
        wait_until(process, lambda: len(slots(tmp_path)) >= 3)
        interrupt(process, "press Ctrl-C again to stop them now")
        returncode, output = finish(process)
    finally:
        cluster.close()
    assert returncode == 130, output
    assert "Traceback" not in output
    n_trials = status(tmp_path)["n_finished"] + 1
    with short_leases():
        answer = search_here(tmp_path, n_trials, "trainer.threads=1")
    assert answer.status == 0, answer
    check_budget(tmp_path, n_trials)
    assert n_losses(tmp_path) >= 2
    assert not re.search(r"raylet|state-dump", output), output  # what Ray itself has to say of it


@pytest.mark.smoke
def test_the_same_trials_and_bits_as_without_the_engine_and_nothing_is_left(tmp_path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (tmp_path / "elsewhere").mkdir()
    (elsewhere / "subprocess.py").write_text("open('imported', 'w')")  # nothing is imported from where people are
    (elsewhere / "ray.py").write_text("open('imported', 'w')")
    (elsewhere / "hashlib.py").write_text("open('imported', 'w')")
    words = ("--n-trials", "4", "trainer.threads=null")  # so that the study's own count, with Ray and without
    assert search_quickly(here, *words)[0] == 0
    returncode, output = search_quickly(elsewhere, *words, "--engine", "ray", "--address", "local")
    assert returncode == 0, output
    assert re.search(r"Ray cluster at 127\.0\.0\.1:\d+: 1 node\(s\) with", output), output
    assert "trial 3 complete" in output
    first, second = (
        [
            (trial.params, trial.value, trial.intermediate_values, trial.user_attrs["result"]["threads"])
            for trial in trials(f)
        ]
        for f in (here, elsewhere)
    )
    assert first == second
    assert len(first) == 4
    assert not (elsewhere / "imported").exists()
    assert not list((elsewhere / "runs" / "cache" / "checks").glob("ray-*"))


def listening(leader):
    """The addresses, in hexadecimal, on which the processes of a session listen to TCP."""
    sockets = set()
    for pid in in_session(leader):
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                host, _, port = fields[1].partition(":")
                found[int(port, 16)] = host
    return found


def test_a_cluster_of_our_own_is_closed_to_others_and_ends_with_the_search(tmp_path):
    process = start(tmp_path, MANY, "--engine", "ray", "--address", "local", "trainer.threads=1", *LONG)
    a_training_worker(process, process.pid)
    ports = listening(process.pid)
    assert len(ports) >= 3
    assert set(ports.values()) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1
    assert 8265 not in ports  # the dashboard's
    (server,) = (words_of(pid) for pid in in_session(process.pid) if words_of(pid)[0].endswith("gcs_server"))
    (session,) = (Path(word.partition("=")[2]) for word in server if word.startswith("--session-dir="))
    assert session.parent.parent.stat().st_mode & 0o777 == 0o700, "its sockets are nobody else's"
    head = re.search(r"Ray cluster at (127\.0\.0\.1:\d+)", process.said())[1]
    join = f"import ray; ray.init(address={head!r}, logging_level='CRITICAL')"
    with pytest.raises((subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        subprocess.run([sys.executable, "-P", "-c", join], check=True, capture_output=True, timeout=15, cwd=tmp_path)
    os.kill(process.pid, signal.SIGTERM)
    returncode, output = finish(process)
    assert returncode == 143, output
    found = status(tmp_path)
    assert (found["n_finished"], found["n_failed"], found["n_running"]) == (0, 1, 0)
    assert trials(tmp_path)[0].user_attrs["ending"] == "interrupted"
    gone_by = time.monotonic() + 60
    while in_session(process.pid) and time.monotonic() < gone_by:
        time.sleep(0.1)
    assert in_session(process.pid) == []


def test_a_cluster_that_loses_its_head_ends_the_search_in_a_sentence(tmp_path):
    process = start(tmp_path, MANY, "--engine", "ray", "--address", "local", "trainer.threads=1", *LONG)
    a_training_worker(process, process.pid)
    os.kill(next(pid for pid in in_session(process.pid) if words_of(pid)[0].endswith("gcs_server")), signal.SIGKILL)
    returncode, output = finish(process)
    assert returncode == 2, output  # Ray itself would abort the process, with a trace of its own
    assert re.search(
        r"error: The head of the Ray cluster at 127\.0\.0\.1:\d+ has not answered for 20 s: the same command goes on",
        output,
    )


def test_a_gpu_is_shared_and_the_workers_have_their_part_of_it_and_their_threads(tmp_path, cluster):
    leader = cluster.process.pid
    words = on_ray(cluster, "--workers", "4", "--trials-per-gpu", "2", *LONG)
    process = start(tmp_path, MANY, *words)
    wait_until(process, lambda: "room for 2" in process.said())  # of two GPUs with one core each
    assert "a worker takes 1 core and 1/2 of a GPU of a node" in process.said()
    assert "2 of the 4 workers wait for further nodes." in process.said()
    wait_until(process, lambda: len([t for t in trials(tmp_path) if t.intermediate_values]) == 2)
    _, child = a_training_worker(process, leader)
    found = variables(parent(child))  # the process from which it is forked was started by the worker
    assert found["CUDA_VISIBLE_DEVICES"] == "0"
    assert found["FLIPSEARCH_MEMORY_SHARE"] == "0.5"
    assert "OMP_NUM_THREADS" not in found  # Ray's own, which would be 1 whatever the run's threads are
    assert {trial.user_attrs["slot"] for trial in trials(tmp_path)} == {"cuda:0"}
    interrupt(process, "press Ctrl-C again to stop them now")
    interrupt(process, "Stopping the running trials")
    returncode, output = finish(process)
    assert returncode == 130, output
    assert "Stopping the running trials; the next call runs them again." in output
    endings = [trial.user_attrs["ending"] for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    assert endings == ["interrupted", "interrupted"]


def test_workers_without_a_gpu_see_none_and_end_when_the_search_is_killed(tmp_path, cluster):
    leader = cluster.process.pid
    process = start(tmp_path, MANY, *on_ray(cluster, "--workers", "1", "trainer.accelerator=cpu", *LONG))
    worker, child = a_training_worker(process, leader)
    assert variables(parent(child))["CUDA_VISIBLE_DEVICES"] == ""
    assert words_of(parent(worker))[0].startswith("ray::")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while ray_workers(leader) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray_workers(leader) == []


def test_what_no_node_can_hold_is_said_and_a_local_cluster_refuses_it(tmp_path, cluster):
    process = start(tmp_path, 5, *on_ray(cluster, "trainer.accelerator=cpu", threads=7))
    wait_until(
        process, lambda: "Waiting for room in the Ray cluster: a worker takes 7 cores of a node." in process.said()
    )
    assert (
        "No node of the Ray cluster can hold a worker now: a worker takes 7 cores of a node, and of its 4 node(s) with "
        "3 cores and 2 GPUs, the largest has 1 cores, the most GPUs on one are 1. The search waits for a node that can"
    ) in process.said()
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process)[0] == 143
    returncode, output = search_quickly(
        tmp_path / "own", "--engine", "ray", "--address", "local", "trainer.threads=999"
    )
    assert returncode == 2, output
    assert "error: No worker fits on this machine: a worker takes 999 cores of a node" in output


# What Ray's state API, its dashboard and its command line have to tell, as they get it.
TOLD = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="CRITICAL", log_to_driver=False)
head = ray._private.state.state._connect_and_get_accessor()
tables = (head.get_job_table(), head.get_node_table(), head.get_worker_table(), head.get_actor_table(None, None))
print(*tables, head.get_task_events())
"""


def test_the_password_is_nowhere_in_ray_and_the_missing_token_is_told(tmp_path, cluster, postgres: PostgresServer):
    url = postgres.url(postgres.create_database())
    assert PASSWORD in url
    words = [*QUICK, "--study-name", STUDY, "--n-trials", "20000", *on_ray(cluster), "--storage", url]
    process = Search([sys.executable, str(ROOT / "run_study.py"), *words], tmp_path)
    wait_until(process, lambda: "trial 0 complete" in process.said())
    assert "Ray's token authentication is off: whoever reaches" in process.said()
    command = [sys.executable, "-P", "-c", TOLD, cluster.address]
    told = subprocess.run(command, capture_output=True, cwd=tmp_path, text=True, check=False)
    shown = [" ".join(words_of(pid)) for pid in in_session(cluster.process.pid)]
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process)[0] == 143
    assert told.returncode == 0, told.stderr
    assert "Supervisor" in told.stdout
    assert "run_study.py" in told.stdout  # the command that a job's page shows
    assert PASSWORD not in told.stdout
    assert f"127.0.0.1:{postgres.port}/" not in told.stdout
    assert any("remote_worker" in words for words in shown)
    assert not [words for words in shown if PASSWORD in words]
    logs = [path for path in Path("/tmp").glob("ray-*/session_*/logs/*") if path.is_file()]
    assert logs
    assert [path.name for path in logs if PASSWORD.encode() in path.read_bytes()] == []


def test_a_cluster_that_asks_for_a_token_is_shown_it_whatever_the_environment_says(tmp_path, monkeypatch):
    token = "0123456789abcdef" * 4
    cluster = FakeCluster(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    try:
        cluster.add(1)
        for content in (None, "fedcba9876543210" * 4):
            if content is not None:
                file.write_text(content)
            returncode, output = search_quickly(tmp_path / "s", "--n-trials", "1", *on_ray(cluster))
            assert returncode == 2, output
            assert re.search(
                r"error: The Ray cluster at \S+ asks for a token, and this machine has none, or another", output
            )
        file.write_text(token)
        returncode, output = search_quickly(tmp_path / "s", "--n-trials", "1", *on_ray(cluster))
    finally:
        cluster.close()
    assert returncode == 0, output
    assert "trial 0 complete" in output
    assert "authentication" not in output


def test_a_port_of_another_service_is_refused_in_a_sentence(tmp_path, postgres: PostgresServer):
    returncode, output = search_quickly(tmp_path, "--engine", "ray", "--address", f"127.0.0.1:{postgres.port}")
    assert returncode == 2, output
    assert f"The Ray cluster at 127.0.0.1:{postgres.port} does not take this process (Timed out" in output


def test_a_node_that_does_not_share_the_folders_or_the_code_is_named(tmp_path, cluster):
    words = ["--n-trials", "1", *on_ray(cluster, "trainer.accelerator=cpu", threads=3)]
    folder = tmp_path / "shared"
    folder.mkdir()
    with odd_node(cluster, f"mount -t tmpfs none {folder}", cores=3):
        returncode, output = search_quickly(folder, *words)
    assert returncode == 2, output
    assert re.search(rf"error: Node .* of the Ray cluster has no {folder}/runs", output), output
    changed = tmp_path / "changed.py"
    changed.write_text((ROOT / "search" / "outcome.py").read_text() + "\n")
    with odd_node(cluster, f"mount --bind {changed} {ROOT}/search/outcome.py", cores=3):
        returncode, output = search_quickly(folder, *words)
    assert returncode == 2, output
    assert "of the Ray cluster has another version of flipsearch in" in output
    assert "Traceback" not in output


def test_a_file_of_this_machine_does_not_serve_others(tmp_path, cluster):
    with odd_node(cluster, "hostname other-machine"):
        deadline = time.monotonic() + 120
        returncode, output = 0, ""
        while returncode == 0 and time.monotonic() < deadline:  # until the node has joined
            returncode, output = search_quickly(
                tmp_path, "--n-trials", "1", *on_ray(cluster, "trainer.accelerator=cpu")
            )
    assert returncode == 2, output
    assert "The Ray cluster has a node that is another machine (other-machine)" in output
    assert "and an SQLite file serves one machine alone: name a Postgres database" in output


def test_a_cluster_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch):
    answer = run_here(*QUICK, "--engine", "ray", "--address", "127.0.0.1:1", cwd=tmp_path)
    assert (
        "No Ray cluster answers at 127.0.0.1:1 (Connection refused): start it with `ray start --head`"
        in answer.refusal()
    )
    answer = run_here(*QUICK, "--engine", "ray", "--address", "ray://head:10001", cwd=tmp_path)
    assert "--address 'ray://head:10001' is not valid: expected HOST:PORT of the cluster's head" in answer.refusal()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    answer = run_here(*QUICK, "--engine", "ray", "--address", "auto", cwd=tmp_path)
    assert "--address auto finds no Ray cluster of yours on this machine" in answer.refusal()
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = run_here(*QUICK, "--engine", "ray", cwd=tmp_path)
    assert "--engine ray needs the package ray, which is not installed: pip install 'ray>=2.52'." in answer.refusal()
    answer = run_here(*QUICK, "--address", "auto", cwd=tmp_path)
    assert "--address is where the Ray cluster of --engine ray is: give both, or neither." in answer.refusal()
