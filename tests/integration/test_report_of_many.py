"""A report of thousands of trials: small enough to send and to draw, and it says what it leaves out."""

import json
import re
from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.reporting import figures as report_figures
from search.reporting.proposals import Proposals
from search.reporting.study_report import make_report
from search.study.snapshot import snapshot
from search.study.study import MANIFEST
from tests.helpers.browser import in_a_browser, open_browser
from tests.helpers.pages import assert_looks_right, without_plotly
from tests.helpers.small_study import ABOUT, NAME, record

N_TRIALS = 1300  # of which 600 are pruned
N_COMPLETE = 700
MOST_BYTES = 3_500_000
MARK = "only in the database"


@pytest.fixture(scope="module")
def study():
    """In memory: only what is drawn of it is looked at."""
    study = optuna.create_study(study_name=NAME, direction="maximize")
    study.set_user_attr(MANIFEST, ABOUT)
    random = np.random.default_rng(0)
    trials = []
    for number in range(N_TRIALS):
        is_complete = number % 13 < 7
        values = list(random.random(20 if is_complete else 1))
        alpha = float(10 ** random.uniform(-3, 3))
        trial = create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
            value=max(values) if is_complete else None,
            params={"model.alpha": alpha, "model.beta": alpha / 2},
            distributions={name: FloatDistribution(1e-4, 1e3, log=True) for name in ("model.alpha", "model.beta")},
            user_attrs={"ending": "complete" if is_complete else "pruned", "x": MARK, "result": record([values])},
        )
        trial.datetime_start = datetime(2026, 7, 1, 12) + timedelta(seconds=10 * number)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=9)
        trials.append(trial)
    study.add_trials(trials)
    return study


@pytest.fixture(scope="module")
def text(study, tmp_path_factory):
    return make_report(study, runs=tmp_path_factory.mktemp("runs"), export=None, proposals=Proposals(prog="p"))


def figures_of(text):
    """The data of each figure."""
    decoder = json.JSONDecoder()
    starts = re.findall(r"Plotly\.newPlot\(\s*\"[^\"]*\",\s*(\[.*)", text)
    return [decoder.raw_decode(start)[0] for start in starts]


def test_it_is_small_and_says_what_it_leaves_out(text):
    assert len(text.encode()) < MOST_BYTES
    assert text.count("Of 700 complete trials 500 are shown: the best 100, and others spread evenly.") == 1
    assert text.count("Of 700 complete trials 200 are shown: the best 40, and others spread evenly.") == 1
    assert text.count("Of 1,300 trials 500 are shown: the best 100, and others spread evenly.") == 1
    assert MARK not in text


def test_no_figure_has_a_line_for_each_of_thousands_of_trials(text):
    n_traces = [len(traces) for traces in figures_of(without_plotly(text))]
    assert len(n_traces) == 6
    assert max(n_traces) <= report_figures._MOST_TRIALS + 1, n_traces


def test_the_history_and_the_timeline_leave_nothing_out(text):
    drawn = figures_of(without_plotly(text))
    timeline = [bars for traces in drawn for bars in traces if bars["type"] == "bar" and "base" in bars]
    assert sum(len(bars["text"]) for bars in timeline) == N_TRIALS
    assert any("trial 0 complete" in words for bars in timeline for words in bars["text"])


def test_the_best_are_shown_and_the_others_are_from_first_to_last(study):
    trials = study.get_trials(deepcopy=False)
    shown, (sentence,) = report_figures._thinned(trials, 50, "trials")
    assert "Of 1,300 trials 50 are shown: the best 10" in sentence
    numbers = [trial.number for trial in shown]
    assert len(set(numbers)) == 50
    assert numbers == sorted(numbers)
    best = sorted((-trial.value, trial.number) for trial in trials if trial.value is not None)[:10]
    assert {number for _, number in best} <= set(numbers)
    assert max(b - a for a, b in zip([0, *numbers], [*numbers, N_TRIALS], strict=False)) < 2 * N_TRIALS / 40
    assert report_figures._thinned(trials, N_TRIALS, "trials") == (trials, [])
    assert len(report_figures._thinned(trials, 1, "trials")[0]) == 1


def test_long_curves_leave_room_for_fewer_trials(study, monkeypatch):
    monkeypatch.setattr(report_figures, "_MOST_ON_CURVES", 1000)
    sentence = report_figures.learning_curves(study.get_trials(deepcopy=False))[0]
    assert "Of 1,300 trials 89 are shown: the best 17, and others" in sentence, "11.23 points a trial"


def test_a_snapshot_has_the_trials_that_it_was_given(study):
    trials = study.get_trials(deepcopy=False)[:13]
    seen = snapshot(study, trials)
    assert (seen.trials, seen.study_name, seen.direction) == (trials, NAME, study.direction)
    assert len(seen.get_trials(states=(TrialState.PRUNED,))) == 6
    assert len(study.trials) == N_TRIALS


def test_a_snapshot_keeps_the_attributes_that_it_has_seen(study):
    study.set_user_attr("seen", 1)
    seen = snapshot(study, [])
    assert seen.user_attrs == study.user_attrs
    study.set_user_attr("seen", 2)
    assert (seen.user_attrs["seen"], study.user_attrs["seen"]) == (1, 2)
    assert snapshot(study, []).user_attrs["seen"] == 2


@in_a_browser
@pytest.mark.system
def test_in_a_browser_it_looks_right(text, tmp_path):
    assert_looks_right(text, 6, tmp_path)


@in_a_browser
@pytest.mark.system
def test_a_browser_that_cannot_unpack_it_says_so_in_place_of_each_figure(text, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    (tmp_path / "browser").mkdir()
    with open_browser(tmp_path / "browser") as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
        browser.open(path.as_uri())
        assert browser.wait_for("This browser cannot draw").count("open the page in one of 2023 or later") == 6


def test_a_study_that_searched_nothing_has_no_importance():
    study = optuna.create_study(direction="maximize")
    study.add_trials([create_trial(value=0.1 * number) for number in range(5)])
    assert report_figures.importance(study) == "Nothing was searched."
