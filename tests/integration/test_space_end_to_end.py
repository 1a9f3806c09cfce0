"""A study whose space holds alternatives, from the command line to the exported experiment."""

import json
from collections.abc import Callable
from typing import Any

import optuna
import yaml

WORDS = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "trainer.threads=1", "validation=holdout")
SPACE = (
    "+space.data.batch_size={type: categorical, choices: [64, 256]}",
    "space.model.alpha=[{type: float, low: 0.1, high: 1, when: {data.batch_size: 64}}, "
    "{type: float, low: 10, high: 100, when: {data.batch_size: 256}}]",
    "first_trials=[{data: {batch_size: 64}}, {data: {batch_size: 256}, model: {alpha: 20}}, {needs: gpu}]",
)
NAMES = {"model.alpha[data.batch_size=64]": 1.0, "model.alpha[data.batch_size=256]": 20.0}


def test_a_study_over_alternatives(command: Callable[..., Any]) -> None:
    dry = command(*WORDS, *SPACE, "--dry-run")
    assert dry.status == 0, dry
    assert "# the space: 2 searched values" in dry.out
    assert all(name in dry.out for name in NAMES)
    assert "# the first trial\ndata.batch_size: 64\nmodel.alpha: 1.0\n" in dry.out

    answer = command(*WORDS, *SPACE, "--n-trials", "3", "--export-dir", "exported")
    assert answer.status == 0, answer
    study = optuna.load_study(study_name=None, storage="sqlite:///runs/studies.db")
    first, second, third = study.trials
    assert [first.params, second.params] == [
        {"data.batch_size": size, name: alpha} for size, (name, alpha) in zip((64, 256), NAMES.items(), strict=True)
    ]
    assert len(third.params) == 2
    best = study.best_trial
    (name,) = (name for name in best.params if name != "data.batch_size")
    assert f"{name} " in answer.out, "the whole name, its condition included"

    found = json.loads(command("status", "--json", "--study-name", study.study_name).out)
    values = {"data.batch_size": best.params["data.batch_size"], "model.alpha": best.params[name]}
    assert found["best"]["params"] == values
    exported = f"exported/{study.study_name}.yaml"
    with open(exported, encoding="utf-8") as file:
        tree = yaml.safe_load(file)
    assert {"data.batch_size": tree["data"]["batch_size"], "model.alpha": tree["model"]["alpha"]} == values
    assert command("verify", exported).status == 0
