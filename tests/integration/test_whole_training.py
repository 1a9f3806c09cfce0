"""Training without validation goes on for exactly as many epochs as it is told, and keeps the last weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.nested import overlay
from search.config.run_config import RunConfig, run_config
from search.study.config import study_config
from search.training.build import build_data, build_model, folds_of
from search.training.fit import fit
from search.training.result import Result
from search.training.weights import load_weights

TASK = "synthetic_one_vs_rest"


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return prepare(find_task(TASK), data_dir=None, cache_dir=tmp_path_factory.mktemp("splits"), announce=print)


def run_of(model: str, trained_on: str, **trainer: Any) -> RunConfig:
    config = study_config([f"task={TASK}", f"model={model}", "validation=holdout"]).run({})
    trainer = {"threads": 1, "max_epochs": 3, "patience": 1, **trainer}
    return replace(
        config,
        validation={"_target_": f"datasets.whole_training.{trained_on}"},
        trainer=replace(config.trainer, **trainer),
        logger=None,
    )


def trained(config: RunConfig, split: PreparedSplit, directory: Path) -> tuple[Result, list[Any]]:
    told: list[Any] = []
    result = fit(
        config,
        split,
        places=Places(weights_dir=None, cache_dir=directory / "cache"),
        directory=directory,
        report=lambda *report: told.append(report),
    )
    return result, told


def test_the_folds_hold_all_rows_or_those_of_the_training_part(split: PreparedSplit) -> None:
    [whole] = folds_of(run_of("ridge", "TrainAndValidation"), split)
    [alone] = folds_of(run_of("ridge", "TrainAlone"), split)
    assert len(whole.validation) == len(alone.validation) == 0
    assert whole.train.tolist() == list(range(split.n_train + split.n_validation))
    assert alone.train.tolist() == np.flatnonzero(~split.validation).tolist()
    assert len(alone.train) == split.n_train < len(whole.train)


def test_it_trains_for_as_many_epochs_as_it_is_told(split: PreparedSplit, tmp_path: Path) -> None:
    config = run_of("cnn", "TrainAndValidation")
    result, told = trained(config, split, tmp_path)
    assert (result.ending, result.value, result.values, result.best_epochs) == ("complete", None, ((),), (2,))
    assert told == []
    assert [Path(name).name for name in result.checkpoints] == ["fold0.safetensors"]


def test_the_weights_are_the_last_and_depend_on_the_rows(split: PreparedSplit, tmp_path: Path) -> None:
    states = {}
    for name, trained_on, n_epochs in (
        ("a", "TrainAndValidation", 2),
        ("b", "TrainAndValidation", 2),
        ("longer", "TrainAndValidation", 3),
        ("alone", "TrainAlone", 2),
    ):
        config = run_of("cnn", trained_on, max_epochs=n_epochs)
        result, _ = trained(config, split, tmp_path / name)
        model = build_model(config)
        load_weights(model, Path(result.checkpoints[0]))
        states[name] = torch.cat([tensor.flatten() for tensor in model.trained_state().values()])
    assert torch.equal(states["a"], states["b"])
    assert not torch.equal(states["a"], states["longer"])
    assert not torch.equal(states["a"], states["alone"])


def test_ridge_without_validation_is_that_of_all_rows(split: PreparedSplit, tmp_path: Path) -> None:
    config = run_of("ridge", "TrainAndValidation", max_epochs=1)
    result, _ = trained(config, split, tmp_path)
    model = build_model(config)
    load_weights(model, Path(result.checkpoints[0]))
    [fold] = folds_of(config, split)
    predictions = torch.cat([model(batch) for batch in build_data(config, split, model, fold, 0).train_dataloader()])
    # The intercept is not penalised, so the mean over the rows that were trained on is right: of all of them.
    assert float(predictions.double().mean()) == pytest.approx(float(split.target.astype(np.float64).mean()), abs=1e-6)


def test_weights_that_are_not_finite_are_a_finding(split: PreparedSplit, tmp_path: Path) -> None:
    config = run_of("cnn", "TrainAlone")
    model = {**config.model, "lr_encoder": 1e30, "lr_decoder": 1e30, "lr_embedding": 1e30}
    config = replace(config, model=model, trainer=replace(config.trainer, gradient_clip=None))
    result, _ = trained(config, split, tmp_path)
    assert (result.ending, result.value) == ("diverged", None)


def test_a_study_cannot_do_without_validation() -> None:
    config = run_of("ridge", "TrainAlone")
    tree = overlay({**vars(config), "data": vars(config.data), "trainer": vars(config.trainer)}, {})
    tree["cache"] = vars(config.cache)
    with pytest.raises(UserError, match=r"is not a datasets\.validation\.Validation"):
        run_config(tree)
