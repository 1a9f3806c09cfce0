"""Workers do as the operator says: drain, pause, resume; real searches, told from outside."""

import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from search.storage.attributes import CONTROL, N_TARGET
from search.study.control import POLL_S, read_control, run_if_drained, set_control
from tests.helpers.processes import MANY, ROOT
from tests.helpers.small_study import NAME, add, default_database, make_study
from tests.integration.test_startup import probe

SEARCH = [
    "--task",
    "synthetic_two_vs_rest",
    "--model",
    "ridge",
    "--study-name",
    "s",
    "--export-dir",
    "exported",
    "validation=holdout",
]

# The whole set belongs to CI; each start of a search costs seconds.
ENDS = [("Ctrl-C", 130), ("drain", 0)]


@pytest.fixture
def by_hand(tmp_path):
    return make_study(default_database(tmp_path))[1]


def test_a_study_runs_until_it_is_told_otherwise(by_hand):
    assert read_control(by_hand) == "run"
    for control in ("pause", "drain", "run"):
        set_control(by_hand, control)
        assert read_control(optuna.load_study(study_name=NAME, storage=by_hand._storage)) == control
    by_hand.set_user_attr(CONTROL, "what a later version may write")
    assert read_control(by_hand) == "run"


def test_a_new_search_ends_a_drain_but_no_pause(by_hand):
    set_control(by_hand, "drain")
    run_if_drained(by_hand)
    assert read_control(by_hand) == "run"
    set_control(by_hand, "pause")
    run_if_drained(by_hand)
    assert read_control(by_hand) == "pause"


def test_each_command_says_what_happens_now(by_hand, command):
    add(by_hand, TrialState.COMPLETE, value=0.5)
    add(by_hand, TrialState.RUNNING)
    said = {}
    for word in ("resume", "pause", "pause", "drain", "resume"):
        answer = command(word, "--study-name", NAME)
        assert answer.status == 0
        assert "1 of 10 trials are finished, 1 running" in answer.out
        said.setdefault(word, []).append(answer.out)
    assert "was neither paused nor draining" in said["resume"][0]
    assert "is paused" in said["pause"][0]
    assert "is already paused" in said["pause"][1]
    assert "is draining" in said["drain"][0]
    assert "come back with the search command" in said["resume"][1]
    assert read_control(by_hand) == "run"


@pytest.mark.parametrize("word", ["drain", "pause", "resume"])
def test_a_study_that_is_not_there_is_refused_with_the_nearest_names(by_hand, command, word):
    assert "There is no study 'by-hnd'" in (said := command(word, "--study-name", "by-hnd").refusal())
    assert f"Did you mean {NAME!r}?" in said
    assert "--study-name" in command(word).refusal()


@pytest.mark.parametrize(
    "words",
    [
        ["drian", "--study-name", "s"],
        ["drain"],
        ["resume", "--study-name", "s", "--storge", "sqlite:///x"],
        ["requeue", "x", "--study-name", "s"],
        ["status", "--watch", "--json"],
        ["status", "--interval", "2"],
        ["doctor", "--task", "gb1_three_vs_ret"],
    ],
    ids=" ".join,
)
def test_a_usage_error_waits_for_no_library(words, tmp_path):
    status, out, err, imported = probe(words, tmp_path)
    assert (status, out, imported) == (2, "", [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module",
    [
        "workers.fleet_worker",
        "session",
        "cli.search",
        "cli.studies.status",
        "cli.studies.requeue",
        "cli.doctor",
        "reporting.summary",
    ],
)
def test_only_training_children_load_torch(module):
    program = f"import sys, search.{module}; print([name for name in ('torch', 'lightning') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Search:
    """A search in a folder of its own whose output goes to a file, so that it can be read while it runs."""

    def __init__(self, folder, n_trials):
        self.folder = folder
        self.log = folder / f"log-{n_trials}.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "run_study.py"), *SEARCH, "--n-trials", str(n_trials), "trainer.threads=1"],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, is_so, timeout_s=300):
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def says(self, words):
        return words in self.log.read_text()

    def end(self):
        """Exit status and output."""
        return self.process.wait(300), self.log.read_text()

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def searching(tmp_path):
    searches = []

    def begin(n_trials):
        searches.append(Search(tmp_path, n_trials))
        return searches[-1]

    yield begin
    for search in searches:
        search.kill()


def counts(folder):
    study = optuna.load_study(study_name="s", storage=default_database(folder))
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED), states.count(TrialState.RUNNING)


def test_pause_resume_and_drain_reach_a_running_search_and_the_budget_stays_exact(tmp_path, searching, command):
    search = searching(MANY)
    search.wait_until(lambda: search.says("finished"))
    assert command("pause", "--study-name", "s").status == 0
    search.wait_until(lambda: search.says("is paused"))
    n_before, n_running = counts(tmp_path)
    assert n_running == 0
    time.sleep(POLL_S + 1)
    assert counts(tmp_path) == (n_before, 0)
    assert search.process.poll() is None

    assert command("resume", "--study-name", "s").status == 0
    search.wait_until(lambda: counts(tmp_path)[0] > n_before)

    assert command("drain", "--study-name", "s").status == 0
    status, said = search.end()
    n_drained, n_running = counts(tmp_path)
    assert status == 0, said
    assert f"Drained at {n_drained} of {MANY} trials; the same command goes on." in said
    assert n_running == 0
    assert (tmp_path / "exported" / "s.yaml").exists()

    # The next search ends the drain by itself; its budget counts what was finished before.
    status, said = searching(n_drained + 1).end()
    assert status == 0, said
    assert counts(tmp_path) == (n_drained + 1, 0)
    study = optuna.load_study(study_name="s", storage=default_database(tmp_path))
    assert read_control(study) == "run"
    assert study.user_attrs[N_TARGET] == MANY

    # A paused one it leaves paused, says so and waits; Ctrl-C ends it, and so does a drain.
    assert command("pause", "--study-name", "s").status == 0
    for end, expected in ENDS:
        search = searching(n_drained + 2)
        search.wait_until(lambda search=search: search.says("is paused: `resume` lets it go on"))
        if end == "drain":
            assert command("drain", "--study-name", "s").status == 0
        else:
            os.killpg(search.process.pid, signal.SIGINT)
        status, said = search.end()
        assert status == expected, said
        assert counts(tmp_path) == (n_drained + 1, 0)
