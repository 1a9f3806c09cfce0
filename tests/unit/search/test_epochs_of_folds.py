"""Which epoch's weights are kept: the best of one fold, the last of several."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from models.metrics import spearman
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.build import folds_of
from search.training.fit import fit
from search.training.predictions import VALIDATION
from search.training.result import Result

TASK = "synthetic_one_vs_rest"
N_EPOCHS = 8
RESTLESS = ("trainer.patience=1", "model.lr_encoder=0.05", "model.lr_embedding=0.05", "model.lr_decoder=0.05")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return prepare(find_task(TASK), data_dir=None, cache_dir=tmp_path_factory.mktemp("splits"), announce=print)


def run_of(*overrides: str) -> RunConfig:
    """A CNN whose validation goes up and down, of `N_EPOCHS` epochs unless it stops early."""
    words = [f"task={TASK}", "model=cnn", "logger=none", "trainer.threads=1", "trainer.accelerator=cpu"]
    return study_config([*words, *RESTLESS, f"trainer.max_epochs={N_EPOCHS}", *overrides]).run({})


def train(split: PreparedSplit, folder: Path, *overrides: str) -> Result:
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    return fit(run_of(*overrides), split, places=places, directory=folder, report=lambda *_: None)


def test_one_fold_keeps_its_best_epoch_and_stops_early(split: PreparedSplit, tmp_path: Path) -> None:
    result = train(split, tmp_path, "validation=holdout")
    [values], [best] = result.values, result.best_epochs
    assert best is not None
    assert len(values) == best + 2 < N_EPOCHS
    assert result.value == values[best] == max(value for value in values if value is not None)


def test_several_folds_all_keep_the_last_epoch(split: PreparedSplit, tmp_path: Path) -> None:
    result = train(split, tmp_path, "validation=kfold", "validation.n_folds=3")
    assert [len(values) for values in result.values] == [N_EPOCHS] * 3
    assert result.best_epochs == (N_EPOCHS - 1,) * 3
    assert any(values[-1] != max(filter(None, values)) for values in result.values), "the last epoch was the best"
    # Each fold's part of the kept predictions has the value of its last epoch.
    kept = load_file(tmp_path / VALIDATION)
    for fold, values in zip(
        folds_of(run_of("validation=kfold", "validation.n_folds=3"), split), result.values, strict=True
    ):
        rows = torch.isin(kept["row"], torch.from_numpy(fold.validation))
        assert spearman(kept["prediction"][rows], kept["target"][rows]) == pytest.approx(values[-1], abs=1e-6)
