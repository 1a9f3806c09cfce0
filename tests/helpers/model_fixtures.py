"""Splits and trainers for the tests of models."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import Trainer

from datasets.batches.datamodule import FitnessData
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Fold, Holdout
from models.fitness_model import FitnessModel


@pytest.fixture(scope="session")
def get_split(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedSplit]:
    """Prepared splits by the name of the task; skips if FLIP's files are needed and not there."""
    cache_dir = tmp_path_factory.mktemp("prepared")

    def get(name: str) -> PreparedSplit:
        if not name.startswith("synthetic") and not os.environ.get("FLIPSEARCH_DATA"):
            pytest.skip("needs FLIP's files: set FLIPSEARCH_DATA to the folder that holds them")
        return prepare(find_task(name), data_dir=None, cache_dir=cache_dir, announce=lambda _: None)

    return get


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Trainer]:
    """Trains a model on a split the way a run does."""

    def fit(
        model: FitnessModel,
        split: PreparedSplit,
        *,
        name: str,
        crop: str | None = None,
        fold: Fold | None = None,
        max_epochs: int = 1,
        precision: str = "32-true",
        gives_epochs: bool = False,
    ) -> Trainer:
        data = FitnessData(
            split=split,
            task=find_task(name),
            tokenizer=model.tokenizer,
            fold=fold or Holdout().folds(split, find_task(name))[0],
            crop=crop,
            batch_size=256,
            seed=0,
        )
        if gives_epochs:
            data.give_epochs(limit=None, should_stop=lambda: False)
        model.see_lengths(data.lengths)
        model.see_rows(data.training_rows)
        trainer = Trainer(
            accelerator="cpu",
            precision=precision,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        with warnings.catch_warnings():
            # Lightning 2.6 with torch >= 2.12: its own business.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            trainer.fit(model, datamodule=data)
        return trainer

    return fit


@pytest.fixture
def everything() -> Callable[[PreparedSplit], Fold]:
    """The fold that trains on train and validation together, as FLIP's ridge does."""

    def fold(split: PreparedSplit) -> Fold:
        rows = np.arange(len(split.target), dtype=np.int64)
        return Fold(train=rows, validation=rows)

    return fold
