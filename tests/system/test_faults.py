"""Whatever is killed, whenever: no finished trial is lost, none lingers, and the budget is met exactly."""

import contextlib
import os
import random
import signal
import time

import optuna
import pytest

from tests.helpers.processes import (
    LONG,
    MANY,
    STUDY,
    finish,
    hold_child,
    interrupt,
    is_gone_within,
    let_go,
    search_here,
    signal_group,
    start,
    start_with_short_lease,
    status,
    training_child,
    trial_of,
    trials,
    wait_for_child,
    wait_until,
)
from tests.helpers.short_leases import short_leases

pytestmark = pytest.mark.timeout(1200)
ROUNDS = 2  # each starts a search with its forkserver, which costs ten seconds of a core


def interrupt_twice(process):
    child = stop_child(process)
    interrupt(process, "press Ctrl-C again to stop it now")
    signal_group(process, signal.SIGINT)
    check_stopped(child)


def terminate(process):
    child = stop_child(process)
    signal_group(process, signal.SIGTERM)
    check_stopped(child)


def stop_child(process):
    """Who waited for a trial that stands still would wait for ever, on the fastest machine and the slowest."""
    return signal_child(process, signal.SIGSTOP)


def check_stopped(child):
    """The trial that ran when the search was told to stop it is stopped within 10 s: by itself it stood for ever."""
    assert child is None or is_gone_within(child, 10), "the trial is not stopped"


def kill(process):
    signal_group(process, signal.SIGKILL)


def kill_child(process):
    signal_child(process, signal.SIGKILL)


def signal_child(process, number):
    pid = training_child(process)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # its trial ended meanwhile
            os.kill(pid, number)
    return pid


FAULTS = [kill, interrupt_twice, terminate, kill_child]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One study for the whole module: it has survived everything that came before."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def budget():
    return {"n": 0}


@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("fault", FAULTS)
def test_budget_is_exact_after_a_fault_at_a_random_moment(folder, budget, fault, round_number):
    moment = random.Random(f"{fault.__name__} {round_number}")
    budget["n"] += 2
    n_before = len(trials(folder))
    process = start_with_short_lease(folder, budget["n"])
    wait_until(process, lambda: len(trials(folder)) > n_before)  # what trains may come and go unseen
    time.sleep(moment.uniform(0.0, 3.0))
    fault(process)
    returncode, _ = finish(process)
    if fault in (interrupt_twice, terminate) and returncode != 0:
        # The last is that of a signal which came when all was done; a shell says 143 of it, too.
        assert returncode in (130, 143, -signal.SIGTERM)
    finished_before = status(folder)["n_finished"]

    with short_leases():
        answer = search_here(folder, budget["n"])

    assert answer.status == 0, answer
    found = status(folder)
    assert found["n_finished"] == budget["n"]
    assert found["n_running"] == 0
    assert found["n_finished"] >= finished_before
    assert found["best"] is not None
    assert (folder / "experiments" / "faults.yaml").exists()
    names = {path.name for path in (folder / "experiments").iterdir()}
    assert names == {"faults.yaml", "faults", ".exports.lock"}
    assert [path.name for path in (folder / "experiments" / "faults").iterdir()] == ["fold0.safetensors"]


def test_same_budget_adds_nothing_and_a_larger_one_the_difference(folder, budget):
    budget["n"] += 1
    assert search_here(folder, budget["n"]).status == 0
    before = status(folder)
    assert before["n_finished"] == before["n_target"] == budget["n"]
    answer = search_here(folder, budget["n"])
    assert answer.status == 0
    assert "nothing to do" in answer.err
    assert status(folder) == before
    budget["n"] += 2
    assert search_here(folder, budget["n"]).status == 0
    assert status(folder)["n_finished"] == budget["n"]


@pytest.mark.smoke
def test_first_interrupt_finishes_the_running_trial(tmp_path):
    process = start(tmp_path, MANY)
    child = hold_child(process)
    number = trial_of(child)
    interrupt(process, "Finishing the running trial")
    let_go(child)
    returncode, output = finish(process)
    assert returncode == 130
    assert "Finishing the running trial" in output
    found = status(tmp_path)
    assert (found["n_finished"], found["n_failed"], found["n_running"]) == (number + 1, 0, 0)


def test_child_leaves_when_its_parent_is_killed(tmp_path):
    process = start(tmp_path, 1, *LONG)
    child = wait_for_child(process)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert is_gone_within(child, 10)


def test_interrupted_trial_is_run_again_with_its_parameters(tmp_path):
    process = start(tmp_path, MANY)
    hold_child(process)  # between two trials there would be none to lose
    terminate(process)
    assert finish(process)[0] == 143
    answer = search_here(tmp_path, status(tmp_path)["n_finished"] + 2)
    assert answer.status == 0, answer
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / 'runs' / 'studies.db'}")
    lost = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL]
    again = {trial.user_attrs.get("retry_of"): trial for trial in study.trials}
    assert len(lost) == 1
    assert lost[0].params
    assert lost[0].params == again[lost[0].number].params
