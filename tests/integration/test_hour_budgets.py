"""Searches with a budget of hours: no trial begins once it is spent, whoever works, and more hours go on."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial

import search
from datasets.common.errors import UserError
from search.storage.attributes import HOURS, USES
from tests.helpers.answers import run_here

TASK = "synthetic_two_vs_rest"
WORDS = ("trainer.threads=1", "validation=holdout")
SECOND = 1 / 3600


def ask(folder: Path, **fields: Any) -> search.StudyOutcome:
    given = {"model": "ridge", "n_trials": 1000, "executor": "inline", "quiet": True, "overrides": WORDS, **fields}
    where = {"runs_dir": folder / "runs", "export_dir": folder / "export"}
    return search.run_study(search.SearchRequest(task=TASK, study_name="s", **where, **given))


def core_s(trials: list[FrozenTrial], until: float = math.inf) -> float:
    """What trials of one thread had used by then, in seconds, by what each says of its beginning and by its length."""
    spans = [(trial.user_attrs[USES]["since"], trial.duration.total_seconds()) for trial in trials]
    return sum(max(0.0, min(length, until - began)) for began, length in spans)


def test_no_trial_begins_once_the_hours_are_spent_and_more_hours_go_on(tmp_path: Path) -> None:
    first = ask(tmp_path, core_hours=0.3 * SECOND)
    trials = first.study.trials
    assert first.ended == search.EndReason.HOURS
    assert 1 <= first.n_finished < 1000
    assert core_s(trials[:-1]) < 0.3 <= core_s(trials)
    assert first.experiment.exists()
    assert first.study.user_attrs[HOURS] == {"core": 0.3 * SECOND}
    # Without a number of its own the study's holds; spent, nothing runs.
    assert ask(tmp_path).n_finished == first.n_finished
    words = ("--task", TASK, "--model", "ridge", *WORDS, "--study-name", "s", "--export-dir", "export")
    answer = run_here(*words, cwd=tmp_path)
    assert answer.status == 0
    assert f"The hours of the study are used up at {first.n_finished} of 100 trials; with more hours it" in answer.err
    assert "of 8.33333e-05 core-hours" in answer.out
    assert "of 8.33333e-05 core-hours" in run_here("status", cwd=tmp_path).out
    more = ask(tmp_path, core_hours=1, n_trials=first.n_finished + 1)
    assert (more.ended, more.n_finished) == (search.EndReason.BUDGET, first.n_finished + 1)


def test_two_at_once_keep_to_the_budget_of_both(tmp_path: Path) -> None:
    ask(tmp_path, n_trials=1)
    limit_s = core_s(search.open_study("s", runs_dir=tmp_path / "runs").trials) + 1.0
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: ask(tmp_path, core_hours=limit_s * SECOND), range(2)))
    trials = search.open_study("s", runs_dir=tmp_path / "runs").trials
    assert {outcome.ended for outcome in ended} == {search.EndReason.HOURS}
    assert core_s(trials) >= limit_s
    # A trial is asked for after the one before it began, and begins a moment later, in which the other one goes on.
    for before, trial in pairwise(trials):
        assert core_s(trials, until=before.datetime_start.timestamp()) < limit_s, trial.number


def test_gpu_hours_mean_nothing_without_a_gpu_which_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, gpu_hours=1e-6, n_trials=2, quiet=False).ended == search.EndReason.BUDGET
    assert "--gpu-hours does not limit this search: its workers have no GPU" in capsys.readouterr().err
    ask(tmp_path, core_hours=1e-6, n_trials=3, quiet=False)
    assert "does not limit" not in capsys.readouterr().err


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf])
def test_hours_that_are_none_are_refused(tmp_path: Path, hours: float) -> None:
    with pytest.raises(UserError, match="core_hours="):
        ask(tmp_path, core_hours=hours)


@pytest.mark.parametrize("text", ["0", "nan", "-1", "1e3", "1,5", "", "9" * 20])
def test_the_command_line_takes_plain_numbers(tmp_path: Path, text: str) -> None:
    answer = run_here("--task", TASK, "--model", "ridge", f"--gpu-hours={text}", cwd=tmp_path)
    assert "--gpu-hours" in answer.refusal()
    assert not list(tmp_path.iterdir())
