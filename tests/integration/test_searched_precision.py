"""`model.feature_precision=auto`: chosen once for a study, recorded, and the same for whoever goes on with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import search
from search.config.nested import digest
from search.storage.attributes import MANIFEST
from search.training.precision.chosen import choose_precision, chosen_precision
from tests.helpers.answers import Answer

TASK = "synthetic_one_vs_rest"
NAME = f"{TASK}-esm"
WORDS = (
    *("--task", TASK, "--model", "esm", "validation=holdout", "model.pretrained=false", "model.adaptation=frozen"),
    *("trainer.max_epochs=1", "logger=none", "trainer.threads=1", "model.representation_layer=1"),
)
AUTO = "model.feature_precision=auto"
Command = Callable[..., Answer]


def manifest(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = search.open_study(NAME, runs_dir=folder / "runs").user_attrs[MANIFEST]
    return about


@pytest.mark.slow
def test_a_study_has_one_precision_from_its_beginning_to_its_experiment(tmp_path: Path, command: Command) -> None:
    early = command(*WORDS, "--n-trials", "1", AUTO, "--timeout", "0.001")
    assert early.status == 1
    assert f"The --timeout was over before study {NAME} began" in early.err
    answer = command(*WORDS, "--n-trials", "1", AUTO)
    assert answer.status == 0, answer
    about = manifest(tmp_path)
    chosen = chosen_precision(about)
    assert chosen is not None
    assert chosen.sentence in answer.err
    assert about["config"]["model.feature_precision"] == chosen.precision

    # As if another machine had begun it, which chose otherwise.
    speed = 0.5 if chosen.precision == "bf16-mixed" else 9.0
    other = choose_precision(backbone=chosen.backbone, n_sequences=200, speed=speed, difference=0.0, loss=0.0)
    assert other.precision != chosen.precision
    about["config"]["model.feature_precision"] = other.precision
    about |= {"features": other.record, "config_hash": digest(about["config"])}
    search.open_study(NAME, runs_dir=tmp_path / "runs").set_user_attr(MANIFEST, about)
    answer = command(*WORDS, "--n-trials", "2", AUTO)
    assert answer.status == 0, answer
    assert "Frozen features are computed in" not in answer.err
    assert manifest(tmp_path) == about
    export = tmp_path / "studies" / "experiment" / f"{NAME}.yaml"
    # The best trial may be the first; whichever it is, the file says what this study has.
    assert yaml.safe_load(export.read_text())["model"]["feature_precision"] == other.precision
    assert command(*WORDS, "--n-trials", "2", f"model.feature_precision={other.precision}").status == 0
    refusal = command(*WORDS, "--n-trials", "2").refusal()
    assert f'config.model.feature_precision: "{other.precision}" -> "trainer"' in refusal
    assert "features." not in refusal

    assert command("report", "--study-name", NAME).status == 0
    assert "Frozen features are computed in" in (tmp_path / "runs" / NAME / "report.html").read_text()
    assert json.loads(command("status", "--json").out)


@pytest.mark.slow
def test_bfloat16_is_repeated_bit_for_bit(tmp_path: Path, command: Command) -> None:
    for precision in ("bf16-mixed", "32-true"):
        named = ("--study-name", precision, "--n-trials", "1")
        assert command(*WORDS, *named, f"model.feature_precision={precision}").status == 0
        answer = command("verify", f"studies/experiment/{precision}.yaml", "--runs-dir", "elsewhere", "--quiet")
        assert answer.status == 0, answer
    values = [search.open_study(name, runs_dir=tmp_path / "runs").best_value for name in ("bf16-mixed", "32-true")]
    assert abs(values[0] - values[1]) < 0.1


def test_it_is_no_hyperparameter(command: Command) -> None:
    space = "+space.model.feature_precision={type: categorical, choices: [auto, 32-true]}"
    assert "is chosen once for a whole study" in command(*WORDS, "--n-trials", "1", space).refusal()
    assert "and here is none" in command("train", *WORDS, AUTO, "--quiet").refusal()
