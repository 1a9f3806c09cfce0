"""Several workers on one machine: the budget stays exact, whatever becomes of them, and people see one search."""

import contextlib
import os
import re
import signal
import sqlite3
import time

import filelock
import pytest
from optuna.trial import TrialState

from tests.helpers.processes import (
    LONG,
    MANY,
    STUDY,
    finish,
    hold_child,
    hold_children,
    interrupt,
    is_alive,
    let_go,
    members,
    parent,
    search_here,
    signal_group,
    start,
    start_with_short_lease,
    status,
    trials,
    wait_until,
    worker_of,
    workers,
)
from tests.helpers.short_leases import short_leases

pytestmark = pytest.mark.timeout(1200)


def n_training(folder):
    """Trials that have reported a value and go on: who waits for it has long ones, others pass unseen."""
    return sum(trial.state == TrialState.RUNNING and bool(trial.intermediate_values) for trial in trials(folder))


def n_finished(folder):
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials(folder))


def check_nothing_is_left(process):
    """None of the search's processes outlives it by more than a moment."""
    deadline = time.monotonic() + 30
    while members(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process) == []


def stop_and_reach_the_next_budget(process, folder):
    """End a search of more trials than there is time for, and see that the next one keeps its budget; its output."""
    interrupt(process, "press Ctrl-C again to stop them now")
    returncode, output = finish(process)
    assert returncode == 130, output
    n_trials = n_finished(folder) + 1
    answer = search_here(folder, n_trials)
    assert answer.status == 0, answer
    check_budget(folder, n_trials)
    return output


def check_budget(folder, n_trials):
    found = status(folder)
    assert (found["n_finished"], found["n_running"]) == (n_trials, 0)
    assert (folder / "experiments" / f"{STUDY}.yaml").exists()


def test_two_interrupts_stop_the_fleet_and_the_next_one_reaches_exactly_the_budget(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2")
    wait_until(process, lambda: n_finished(tmp_path) >= 1)
    hold_children(process, 2)  # the first Ctrl-C alone would end the fleet where the second comes late
    assert len(workers(process)) == 2
    interrupt(process, "press Ctrl-C again to stop them now")
    signal_group(process, signal.SIGINT)
    returncode, output = finish(process)
    assert returncode == 130, output
    assert "Finishing the running trials, then stopping; press Ctrl-C again to stop them now." in output
    assert "Stopping the running trials; the next call runs them again." in output
    check_nothing_is_left(process)
    stopped = trials(tmp_path)
    assert {trial.state for trial in stopped} <= {TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING}
    assert {trial.user_attrs["ending"] for trial in stopped if trial.state == TrialState.FAIL} <= {"interrupted"}
    n_trials = n_finished(tmp_path) + 6

    process = start(tmp_path, n_trials, "--workers", "2")
    for child in hold_children(process, 2):  # or the first worker had done all before the other one was there
        let_go(child)
    returncode, output = finish(process)

    assert returncode == 0, output
    check_budget(tmp_path, n_trials)
    after = trials(tmp_path)
    new = {trial.number for trial in after if trial.state == TrialState.COMPLETE} - {
        trial.number for trial in stopped if trial.state == TrialState.COMPLETE
    }
    assert sorted(map(int, re.findall(r"^trial (\d+) complete", output, re.MULTILINE))) == sorted(new)
    assert len(new) == 6  # none is pruned: the study's own pruner holds in every worker
    assert {trial.user_attrs["slot"] for trial in after if trial.number in new} == {"cpu:0", "cpu:1"}
    assert {trial.user_attrs["result"]["threads"] for trial in after if trial.number in new} == {1}
    sampled = [str(trial.params) for trial in after if trial.params and "retry_of" not in trial.user_attrs]
    assert len(set(sampled)) == len(sampled) >= 6


def test_first_interrupt_finishes_the_running_trials(tmp_path):
    process = start(tmp_path, MANY, "--workers", "3")
    children = hold_children(process, 3)
    interrupt(process, "Finishing the running trials")
    for child in children:
        let_go(child)
    returncode, output = finish(process)
    assert returncode == 130, output
    found = status(tmp_path)
    assert (found["n_failed"], found["n_running"], found["n_waiting"]) == (0, 0, 0)
    assert found["n_finished"] >= 3
    check_nothing_is_left(process)


def test_termination_stops_the_fleet(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2", *LONG)
    wait_until(process, lambda: n_training(tmp_path) == 2)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process)[0] == 143
    found = status(tmp_path)
    assert (found["n_finished"], found["n_failed"], found["n_running"]) == (0, 2, 0)
    check_nothing_is_left(process)


def test_third_interrupt_leaves_at_once(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2", *LONG)
    wait_until(process, lambda: n_training(tmp_path) == 2)
    for worker in workers(process):
        os.kill(worker, signal.SIGSTOP)  # so that it cannot do as it is told
    interrupt(process, "press Ctrl-C again to stop them now")
    interrupt(process, "Stopping the running trials")
    signal_group(process, signal.SIGINT)
    assert finish(process)[0] == 130
    check_nothing_is_left(process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_died_is_started_again(tmp_path, number):
    process = start(tmp_path, MANY, "--workers", "2")
    child = hold_child(process)  # between two trials its worker would lose none
    os.kill(worker_of(tmp_path, child), number)
    let_go(child)
    wait_until(process, lambda: "it is started again" in process.said())

    def again():
        return [trial for trial in trials(tmp_path) if "retry_of" in trial.user_attrs]

    wait_until(process, lambda: any(trial.state == TrialState.COMPLETE for trial in again()))
    stop_and_reach_the_next_budget(process, tmp_path)
    assert len(again()) == 1


def test_workers_share_a_forkserver_and_outlive_it(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2")
    children = hold_children(process, 2)
    (server,) = {parent(child) for child in children}
    assert parent(server) == process.pid
    n_before = len(trials(tmp_path))
    os.kill(server, signal.SIGKILL)
    for child in children:
        let_go(child)
    wait_until(process, lambda: n_finished(tmp_path) >= n_before + 2)  # two of them from another server
    output = stop_and_reach_the_next_budget(process, tmp_path)
    assert "started again" not in output
    assert "Traceback" not in output
    assert not [trial for trial in trials(tmp_path) if "retry_of" in trial.user_attrs]
    check_nothing_is_left(process)


def test_workers_end_when_their_supervisor_is_killed_and_the_next_call_goes_on(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2")
    hold_children(process, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    check_nothing_is_left(process)
    n_trials = n_finished(tmp_path) + 3
    assert status(tmp_path)["n_running"] == 0  # they had the time to say that they were interrupted
    returncode, output = finish(start(tmp_path, n_trials, "--workers", "2"))
    assert returncode == 0, output
    check_budget(tmp_path, n_trials)


def suspend_in_a_trial(folder, worker):
    """Not while it holds a lock of the database: on one machine nobody else gets it before the worker goes on."""
    database = folder / "runs" / "studies.db"
    while True:
        os.kill(worker, signal.SIGSTOP)
        with contextlib.suppress(filelock.Timeout, sqlite3.OperationalError):
            with (
                filelock.FileLock(f"{database}.lock", timeout=10),
                contextlib.closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as connection,
            ):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            running = [trial for trial in trials(folder) if trial.state == TrialState.RUNNING]
            if any(trial.user_attrs.get("worker", "").endswith(f":{worker}") for trial in running):
                return
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.1)


def test_a_worker_that_was_suspended_past_its_lease_goes_on_with_other_trials(tmp_path):
    process = start_with_short_lease(tmp_path, MANY, "--workers", "2")
    wait_until(process, lambda: len(workers(process)) == 2)
    suspended, other = workers(process)
    suspend_in_a_trial(tmp_path, suspended)
    wait_until(process, lambda: any("retry_of" in trial.user_attrs for trial in trials(tmp_path)))
    os.kill(suspended, signal.SIGCONT)

    def lost():
        return {trial.user_attrs["retry_of"] for trial in trials(tmp_path) if "retry_of" in trial.user_attrs}

    def works_on():
        by_worker = {trial.number: trial.user_attrs.get("worker", "") for trial in trials(tmp_path)}
        return any(worker.endswith(f":{suspended}") and number > min(lost()) for number, worker in by_worker.items())

    wait_until(process, works_on)
    with short_leases():
        output = stop_and_reach_the_next_budget(process, tmp_path)
    assert "started again" not in output
    assert len(lost()) == 1
    assert other != suspended


def test_workers_that_cannot_live_are_given_up_in_a_sentence(tmp_path):
    process = start(tmp_path, MANY, "--workers", "2", *LONG)
    deadline = time.monotonic() + 300
    killed = set()
    while process.poll() is None and time.monotonic() < deadline:
        for worker in workers(process):
            if is_alive(worker):  # also one killed before that has not ended yet: a large process takes its time
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
        time.sleep(0.05)
    returncode, output = finish(process)
    assert returncode == 1, output
    assert len(killed) == 8  # each was started again three times
    assert "ended by signal 9 time after time and is given up; its output is in" in output
    assert "Traceback" not in output


@pytest.mark.smoke
def test_a_fleet_can_be_quiet(tmp_path):
    returncode, output = finish(start(tmp_path, 3, "--workers", "2", "--quiet"))
    assert (returncode, output) == (0, "")
    check_budget(tmp_path, 3)
    answer = search_here(tmp_path, 3, "--workers", "2")
    assert answer.status == 0, answer
    assert "nothing to do" in answer.err
