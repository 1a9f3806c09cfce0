"""A network that is handed an epoch of batches at once is trained to the bits of one that is handed each batch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from models.esm import ESM
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.fit import fit
from search.training.result import Result
from tests.helpers.esm_models import add_tiny_backbones, make_places

TASK = "synthetic_one_vs_rest"
WATCHING = ({"_target_": "lightning.pytorch.callbacks.Timer", "interval": "epoch", "verbose": False},)
"""A callback of the config, which may look at single batches."""
TINY = {"backbone": "esm2_tiny", "head_width": 8, "head_dropout": 0.3, "warmup_steps": 20}
CASES = {
    "clipped parts": "model=cnn model.dropout=0.3 trainer.gradient_clip=0.1 trainer.micro_batch_tokens=300",
    "ranking": "model=cnn trainer.loss=ranking model.dropout=0.3",
    "ranking in parts": "model=cnn trainer.loss=ranking model.dropout=0.3 trainer.micro_batch_tokens=300",
    "bfloat16": "model=cnn trainer.precision=bf16-mixed trainer.micro_batch_tokens=300",
    "some batches": "model=cnn trainer.limit_train_batches=2 trainer.target_transform=rank_normal",
    "folds": "model=epistasis validation=kfold model.rank=2",
    "warm-up": "model=esm model.adaptation=lora model.lora_rank=2 trainer.gradient_clip=0.5",
}


def config(words: str) -> RunConfig:
    fixed = f"task={TASK} trainer.threads=1 trainer.max_epochs=3 trainer.patience=1 data.batch_size=16"
    run = study_config(["validation=holdout", *fixed.split(), *words.split()]).run({})
    return replace(run, model={**run.model, **TINY}) if "model=esm" in words.split() else run


@pytest.fixture
def train(
    get_split: Callable[[str], PreparedSplit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    add_tiny_backbones(monkeypatch)
    places: Places = make_places(tmp_path, "esm2_tiny")

    def trained(run: RunConfig, name: str, should_stop: Callable[[], bool] = lambda: False) -> Result:
        return fit(
            run,
            get_split(TASK),
            places=places,
            directory=tmp_path / name,
            report=lambda *value: None,
            should_stop=should_stop,
        )

    return trained


def left_behind(folder: Path) -> dict[str, bytes]:
    """Weights, predictions and logs."""
    kept = (path for path in folder.rglob("*") if path.suffix in (".safetensors", ".csv") and "state" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


@pytest.mark.parametrize("name", CASES)
def test_values_weights_predictions_and_logs_are_equal(name: str, train: Callable[..., Result], tmp_path: Path) -> None:
    run = config(CASES[name])
    at_once = train(run, "at once")
    single = train(replace(run, trainer=replace(run.trainer, callbacks=WATCHING)), "single")
    assert at_once.ending == "complete"
    assert at_once.values == single.values
    assert (at_once.value, at_once.best_epochs) == (single.value, single.best_epochs)
    assert at_once.micro_batch_tokens == single.micro_batch_tokens
    files = left_behind(tmp_path / "at once")
    assert {path.rpartition(".")[2] for path in files} == {"safetensors", "csv"}
    assert files == left_behind(tmp_path / "single")


def test_a_run_is_told_to_stop_in_the_middle_of_an_epoch(
    train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    n_steps = [0]
    forward = ESM.forward

    def counted(self: ESM, batch: Any) -> Any:
        n_steps[0] += self.training
        return forward(self, batch)

    def should_stop() -> bool:
        asked.append(None)
        return len(asked) >= 3

    monkeypatch.setattr(ESM, "forward", counted)
    result = train(config(CASES["warm-up"]), "stopped", should_stop)
    assert result.ending == "stopped"
    assert result.values == ((),)
    assert n_steps[0] == 3
