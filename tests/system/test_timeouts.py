"""The time of a call and of a trial: both end, and what they end with is told apart."""

import re
import shutil
import time

import optuna
import pytest
from optuna.trial import TrialState

from search.workers import trial as module
from search.workers.messages import Value, Working
from search.workers.signals import EXIT_INTERRUPTED, Signals
from tests.helpers.faulty import make_models, search

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
# Both are lined up: a worker that samples before the other's parameters are written may draw the same.
HANGS = (
    "sampler=brute_force",
    "space.model.mode.choices=[fine,hangs]",
    "first_trials=[{model:{mode:fine}},{model:{mode:hangs}}]",
)


def states(trials):
    return [trial.state for trial in trials]


def test_a_trial_that_hangs_is_ended_counts_and_is_not_run_again(tmp_path):
    done, trials = search(
        make_models(tmp_path / "models"), "hangs", "--n-trials", "2", "--trial-timeout", "12s", *HANGS
    )
    assert done.status == 0, done.err
    assert states(trials) == [TrialState.COMPLETE, TrialState.PRUNED]
    late = trials[1]
    assert late.params == {"model.mode": "hangs"}
    assert late.user_attrs["ending"] == "timeout"
    assert late.user_attrs["reason"] == "took longer than 12 s"
    assert len(late.intermediate_values) == 1  # of the epoch before it hung
    assert late.constraints == {"timeout": 1.0}
    assert "trial 1 timeout (took longer than 12 s)" in done.err


def test_no_trial_begins_after_the_time_of_a_call(finished_study, tmp_path, program):
    shutil.copytree(finished_study.folder, tmp_path, dirs_exist_ok=True)
    answer = program(*finished_study.command, "--n-trials", "100000", "--timeout", "20", cwd=tmp_path)
    assert answer.status == 0, answer  # two trials were complete before
    found = re.search(r"The --timeout is over at (\d+) of 100000 trials; the same command goes on\.", answer.err)
    assert found
    study = optuna.load_study(study_name=finished_study.name, storage=f"sqlite:///{tmp_path / 'runs' / 'studies.db'}")
    ended = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(ended) == int(found[1]) >= 2
    assert {trial.user_attrs["ending"] for trial in study.trials if trial.state == TrialState.FAIL} <= {"interrupted"}
    assert TrialState.RUNNING not in states(study.trials)
    assert (tmp_path / "exported" / f"{finished_study.name}.yaml").exists()


def test_a_fleet_out_of_time_leaves_what_runs_to_the_next_call(tmp_path):
    models = make_models(tmp_path / "models")
    done, trials = search(models, "fleet", "--n-trials", "2", "--workers", "2", "--timeout", "120", *HANGS)
    assert done.status == 0, done.err
    assert "The --timeout is over at 1 of 2 trials" in done.err
    assert states(trials) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert trials[1].user_attrs["ending"] == "interrupted"
    done, trials = search(models, "fleet", "--n-trials", "2", "--workers", "2", "--trial-timeout", "5", *HANGS)
    assert done.status == 0, done.err
    assert states(trials) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED]


def test_a_call_out_of_time_without_a_complete_trial_is_a_failure(tmp_path):
    done, trials = search(
        make_models(tmp_path / "models"),
        "nothing",
        *("--n-trials", "2", "--timeout", "20", "model.mode=hangs", "sampler=random"),
    )
    assert done.status == 1
    assert "The --timeout is over at 0 of 2 trials" in done.err
    assert TrialState.RUNNING not in states(trials)


def test_what_a_run_does_for_all_trials_is_not_its_own_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    clock = module._Clock(10.0, 4.0)

    def later(seconds, message=None):
        now[0] += seconds
        clock.heard(message)
        return clock.is_over

    working = Working(what="sequences", n_done=1, n_total=9)
    assert not later(9.0, working)
    assert not later(500.0, working)
    assert not later(1.0, Value(fold=0, epoch=0, value=0.1))
    assert not later(8.9)
    assert later(0.2)


def test_without_a_limit_no_trial_is_late():
    clock = module._Clock(None, 4.0)
    clock.heard(Working(what="sequences", n_done=1, n_total=9))
    assert not clock.is_over


def test_a_deadline_stops_trials_and_is_no_signal():
    passed = Signals(lambda sentence: None, deadline=time.monotonic() - 1)
    assert (passed.is_timed_out, passed.is_draining, passed.is_interrupted, passed.exit_status) == (True, True, True, 0)
    ahead = Signals(lambda sentence: None, deadline=time.monotonic() + 1000)
    assert (ahead.is_timed_out, ahead.is_draining, ahead.is_interrupted) == (False, False, False)


def test_signals_are_passed_on_to_whoever_asked():
    said, told = [], []
    signals = Signals(said.append, n_workers=2)
    signals.on_signal = lambda: told.append((signals.is_draining, signals.is_interrupted))
    for _ in range(2):
        signals._handle(2, None)
    assert told == [(True, False), (True, True)]
    assert signals.exit_status == EXIT_INTERRUPTED
    assert said == [
        "Finishing the running trials, then stopping; press Ctrl-C again to stop them now.",
        "Stopping the running trials; the next call runs them again.",
    ]
