"""Studies that began with another space and other defaults than today's go on with their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import search
from search.config.nested import digest
from search.storage.attributes import MANIFEST
from search.storage.rows.checks import STUDY
from tests.helpers.answers import Answer, run_here
from tests.helpers.small_study import ABOUT as MANIFEST_OF_NOW

TASK = "synthetic_two_vs_rest"
WORDS = ("--task", TASK, "--model", "ridge", "trainer.threads=1")


def begun(folder: Path, change: Callable[[dict[str, Any]], None], *words: str) -> None:
    """A study of two trials whose manifest is that of a version with another space or other defaults."""
    request = search.SearchRequest(
        task=TASK,
        model="ridge",
        n_trials=2,
        overrides=("trainer.threads=1", *words),
        executor="inline",
        quiet=True,
        runs_dir=folder / "runs",
        export_dir=folder / "studies" / "experiment",
    )
    study = search.run_study(request).study
    assert study is not None
    study = search.open_study(f"{TASK}-ridge", runs_dir=folder / "runs")
    about = study.user_attrs[MANIFEST]
    change(about)
    about["space_hash"], about["config_hash"] = digest(about["space"]), digest(about["config"])
    study.set_user_attr(MANIFEST, about)


def go_on(folder: Path, *words: str) -> Answer:
    return run_here(*WORDS, "--n-trials", "5", *words, cwd=folder)


def test_the_space_and_the_defaults_of_the_beginning_hold(tmp_path: Path) -> None:
    def change(about: dict[str, Any]) -> None:
        about["space"]["model.alpha"]["low"] = 5000.0
        about["config"]["data.batch_size"] = 128
        del about["config"]["data.truncate"]  # a setting that there was not

    begun(tmp_path, change)
    answer = go_on(tmp_path)
    assert answer.status == 0, answer
    assert "goes on with the space and the defaults that it began with" in answer.err
    assert "data.batch_size: 128 -> 256" in answer.err
    assert "space.model.alpha.low: 5000.0 -> 0.0001" in answer.err
    study = search.open_study(f"{TASK}-ridge", runs_dir=tmp_path / "runs")
    assert len(study.trials) == 5
    assert all(trial.params["model.alpha"] >= 5000 for trial in study.trials[2:])
    experiment = (tmp_path / "studies" / "experiment" / f"{TASK}-ridge.yaml").read_text()
    assert "batch_size: 128" in experiment
    assert run_here("verify", f"studies/experiment/{TASK}-ridge.yaml", cwd=tmp_path).status == 0


@pytest.mark.slow
def test_what_the_command_names_is_no_default(tmp_path: Path) -> None:
    def change(about: dict[str, Any]) -> None:
        about["space"]["model.alpha"]["low"] = 5000.0
        about["config"]["data.batch_size"] = 128

    begun(tmp_path, change)
    assert "data.batch_size: 128 -> 64" in go_on(tmp_path, "data.batch_size=64").refusal()
    assert "low: 5000.0 -> 1.0" in go_on(tmp_path, "space.model.alpha.low=1.0").refusal()
    assert "sampler._target_" in go_on(tmp_path, "sampler=random").refusal()


@pytest.mark.slow
def test_the_same_words_about_the_space_mean_the_same_space(tmp_path: Path) -> None:
    """Whatever else has come to the default space since."""
    high = "space.model.alpha.high=100"

    def change(about: dict[str, Any]) -> None:
        about["space"]["model.alpha"]["low"] = 1.0

    begun(tmp_path, change, high)
    answer = go_on(tmp_path, high)
    assert answer.status == 0, answer
    assert "space.model.alpha.low: 1.0 -> 0.0001" in answer.err
    assert "high: 100.0 -> 50.0" in go_on(tmp_path, "space.model.alpha.high=50").refusal()


@pytest.mark.slow
def test_a_setting_that_there_was_not_is_no_default_where_the_command_names_it(tmp_path: Path) -> None:
    """Trials with it and without it are trials of two studies."""
    begun(tmp_path, lambda about: about["config"].pop("data.truncate"))
    assert "data.truncate: (none) -> false" in go_on(tmp_path, "data.truncate=false").refusal()
    assert go_on(tmp_path).status == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"sampler": {"_target_": "subprocess.Popen", "args": "true"}},
        {"sampler": {"_target_": "optuna.samplers.TPESampler", "gamma": "os.system"}},
        {"pruner": {"_target_": "optuna.pruners.MedianPruner", "n_warmup_steps": "x"}},
        {"space": {"model.alpha": {"type": "float", "low": 1.0, "high": 2.0, "when": {"no.such": 1}}}},
        {"space": {"no.such": {"type": "float", "low": 1.0, "high": 2.0}}},
        {"space": {"validation.seed": {"type": "int", "low": 1, "high": 2}}},
        {"config": {"trainer.callbacks": [{"_target_": "lightning.pytorch.callbacks.Timer"}]}},
        {"config": {"model._target_": "models.cnn.CNN"}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_what_others_write_into_a_manifest_is_checked_as_a_command_is(tmp_path: Path, change: dict[str, Any]) -> None:
    def write(about: dict[str, Any]) -> None:
        for key, value in change.items():
            about[key] = {**about[key], **value} if key == "config" else value

    begun(tmp_path, write)
    refusal = go_on(tmp_path).refusal()
    assert "was made with another configuration" in refusal or "is damaged" in refusal


@pytest.mark.slow
def test_what_the_first_command_named_is_no_default_either(tmp_path: Path) -> None:
    begun(tmp_path, lambda about: about["config"].update({"trainer.threads": 1}))
    assert run_here("--task", TASK, "--model", "ridge", "data.batch_size=128", cwd=tmp_path).status == 2


@pytest.mark.slow
def test_a_database_looks_nothing_up(tmp_path: Path) -> None:
    begun(tmp_path, lambda about: about["config"].update({"data.crop": "${oc.env:HOME}"}))
    refusal = go_on(tmp_path).refusal()
    assert str(Path.home()) not in refusal
    assert "calls oc.env, expected no other functions than min, by, if_region" in refusal


@pytest.mark.parametrize(
    "call", ["${oc.env:HOME}", "${ oc.env : HOME }", "${${data.max_length}:HOME}", "${oc.decode:x}"]
)
def test_a_manifest_that_calls_other_functions_is_damaged(call: str) -> None:
    about = {"data.crop": call, "data.max_length": "oc.env"}
    assert list(STUDY[MANIFEST]("manifest", {**MANIFEST_OF_NOW, "config": about}))
    ours = {"a": "${by:${model.adaptation},{last_k: 2.0e-5},null}", "b": "${min:3,${trainer.max_epochs}}", "c": "$5"}
    assert not list(STUDY[MANIFEST]("manifest", {**MANIFEST_OF_NOW, "config": ours}))
