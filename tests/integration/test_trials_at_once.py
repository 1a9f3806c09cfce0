"""Runs that are trained at once to be counted, in real processes; searches that ask for it."""

import time
from dataclasses import replace

import pytest

from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search import SearchRequest, run_study
from search.study.config import study_config
from search.workers.child import prepare_children
from search.workers.gpu_room import Window, epochs_by_number, memory_allows
from search.workers.jobs import isolated_run, isolated_shares

TASK = "synthetic_two_vs_rest"
SHORT = Window(at_least_s=0.1, at_most_s=60.0, n_epochs=2)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    prepare_children()
    folder = tmp_path_factory.mktemp("splits")
    return prepare(find_task(TASK), data_dir=None, cache_dir=folder, announce=lambda _: None)


def starter_of(split, folder, max_epochs=10**6):
    run = study_config([f"task={TASK}", "model=cnn", "trainer.threads=1", "validation=holdout"]).run({})
    run = replace(run, trainer=replace(run.trainer, max_epochs=max_epochs, patience=10**6))
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    return lambda number: isolated_run(run, split.path, places, folder / str(number))


def test_epochs_of_runs_at_once_are_counted(split, tmp_path):
    rates = epochs_by_number(starter_of(split, tmp_path), 2, lambda: False, SHORT)
    assert [*rates] == [1, 2]
    assert all(rate > 0 for rate in rates.values())


def test_a_run_that_ends_has_nothing_to_count(split, tmp_path):
    assert epochs_by_number(starter_of(split, tmp_path, max_epochs=1), 2, lambda: False, SHORT) == {}


def test_a_signal_ends_it(split, tmp_path):
    ends = time.monotonic() + 1
    start = starter_of(split, tmp_path)
    assert epochs_by_number(start, 2, lambda: time.monotonic() > ends, replace(SHORT, n_epochs=10**9)) == {}


def test_memory_of_no_gpu_is_not_divided(split, tmp_path):
    runs = [study_config([f"task={TASK}", "model=cnn", "validation=holdout"]).run({})]
    assert memory_allows(isolated_shares(runs, split.path, tmp_path, most=8), lambda: False) == 1


def test_search_on_a_gpu_without_room(tmp_path, monkeypatch, capsys):
    """What is no GPU after all has room for one worker, which then trains on the CPU."""
    monkeypatch.setattr("search.request.inputs.visible_gpus", lambda: ("0",))
    monkeypatch.setattr("search.request.inputs.mig_devices", lambda: ())
    monkeypatch.setattr("search.request.before_trials.usable_cores", lambda: 4)
    request = SearchRequest(
        task=TASK,
        model="cnn",
        overrides=("trainer.max_epochs=1", "trainer.threads=1", "validation=holdout"),
        n_trials=2,
        workers=None,
        trials_per_gpu=None,
        runs_dir=tmp_path / "runs",
        export_dir=tmp_path / "experiments",
    )
    outcome = run_study(request)
    assert outcome.n_finished == 2
    assert "--trials-per-gpu auto is 1: beside the largest runs" in capsys.readouterr().err
    assert not [*(tmp_path / "runs" / "cache" / "checks").glob("tmp*")]
