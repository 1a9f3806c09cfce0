"""Predictions of trained weights are those of the run that trained them, whatever they are computed with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datasets.common.errors import SequenceError, UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from models.metrics import spearman
from search.config.run_config import RunConfig
from search.experiments.averages import combined
from search.study.config import study_config
from search.training.build import build_data, build_model, folds_of
from search.training.checkpoint.progress import Progress, Reports
from search.training.fit import fit
from search.training.fold import FoldTraining
from search.training.predictor import Predictor
from search.training.trainer import build_trainer
from search.training.weights import load_weights
from tests.helpers.esm_models import add_tiny_backbones, make_places

TASK = "synthetic_one_vs_rest"
ESM: dict[str, Any] = {"backbone": "esm2_tiny", "head_width": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge": ("ridge", {}),
    "kernel": ("kernel", {}),
    "cnn": ("cnn", {}),
    "esm frozen": ("esm", {**ESM, "adaptation": "frozen", "pooling": "mutation_mean"}),
    "esm attention": ("esm", {**ESM, "adaptation": "frozen", "pooling": "attention"}),
    "esm last_k": ("esm", {**ESM, "adaptation": "last_k", "fine_tune_depth": 1}),
    "esm lora": ("esm", {**ESM, "adaptation": "lora", "lora_rank": 2}),
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    cache = tmp_path_factory.mktemp("prepared")
    return prepare(find_task(TASK), data_dir=None, cache_dir=cache, announce=lambda sentence: None)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    add_tiny_backbones(monkeypatch)
    return make_places(tmp_path)


def config(kind: str) -> RunConfig:
    name, changes = KINDS[kind]
    words = [f"model={name}", "trainer.max_epochs=1", "trainer.threads=1", "logger=none", "data.batch_size=16"]
    run = study_config([f"task={TASK}", "validation=holdout", *words]).run({})
    return replace(run, model={**run.model, **changes})


def train(config: RunConfig, split: PreparedSplit, places: Places, folder: Path) -> Path:
    result = fit(config, split, places=places, directory=folder, report=lambda *values: None)
    assert result.ending == "complete", result
    return folder / "fold0.safetensors"


def own_predictions(
    config: RunConfig, split: PreparedSplit, places: Places, weights: Path, folder: Path
) -> tuple[NDArray[np.int64], torch.Tensor]:
    """The validation rows, and what Lightning's own trainer predicts of them."""
    [fold] = folds_of(config, split)
    model = build_model(config)
    data = build_data(config, split, model, fold, 0)
    trainer = build_trainer(config, folder, 0, [])
    run = FoldTraining(
        config=config,
        split=split,
        places=places,
        directory=folder,
        reports=Reports(lambda *values: None),
        announce=print,
        on_progress=lambda *values: None,
        should_stop=lambda: False,
    )
    run.divide(model, data, torch.device("cpu"), None, Progress())
    run.prepare(model, data, torch.device("cpu"), 0, Progress())
    load_weights(model, weights)
    outputs = trainer.predict(model, dataloaders=data.val_dataloader())
    assert outputs is not None
    return data.validation_rows, torch.cat(outputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_predictions_are_those_of_the_run(kind: str, split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    run = config(kind)
    weights = train(run, split, places, tmp_path / "run")
    predict = Predictor(run, [weights], places=replace(places, cache_dir=tmp_path / "other"))
    rows, own = own_predictions(run, split, places, weights, tmp_path / "own")
    [again] = predict(split.residues[rows], split.lengths[rows])
    assert again.tolist() == own.tolist()
    assert not (tmp_path / "other" / "not kept" / "features").exists()

    # Alone, among others, and with more padding: the same up to the last bits.
    wide = np.pad(split.residues[rows], ((0, 0), (0, 7)))
    [all_at_once] = predict(split.residues, split.lengths)
    np.testing.assert_allclose(predict(wide, split.lengths[rows])[0], again, atol=1e-6)
    np.testing.assert_allclose(all_at_once[rows], again, atol=1e-6)
    for row in rows[:3].tolist():
        alone = predict(split.residues[row : row + 1], split.lengths[row : row + 1])
        np.testing.assert_allclose(alone, [all_at_once[row : row + 1]], atol=1e-6)


def test_an_ensemble_has_a_row_for_each_file(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    runs = [replace(config("cnn"), seed=seed) for seed in (0, 1)]
    files = [train(run, split, places, tmp_path / str(run.seed)) for run in runs]
    both = Predictor(runs[0], files, places=places)(split.residues, split.lengths)
    assert both.shape == (2, len(split.lengths))
    assert both.dtype == np.float32
    for member, run, path in zip(both, runs, files, strict=True):
        assert member.tolist() == Predictor(run, [path], places=places)(split.residues, split.lengths)[0].tolist()
    assert spearman(torch.tensor(both[0]), torch.tensor(both[1])) < 1


def test_a_kernel_knows_its_own_deviation(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    run = config("kernel")
    predict = Predictor(run, [train(run, split, places, tmp_path / "run")] * 2, places=places)
    own = predict.deviation(split.residues, split.lengths)
    assert predict.knows_deviation
    assert own.shape == (2, len(split.lengths))
    train_rows, validation_rows = np.flatnonzero(~split.validation), np.flatnonzero(split.validation)
    assert 0 < own[0, train_rows].mean() < own[0, validation_rows].mean()
    between = np.full(len(split.lengths), 2.0, dtype=np.float32)
    np.testing.assert_allclose(combined(own, None), own[0], rtol=1e-6)
    np.testing.assert_allclose(combined(own, between), np.hypot(own[0], 2.0), rtol=1e-6)
    assert not Predictor(
        config("cnn"), [train(config("cnn"), split, places, tmp_path / "cnn")], places=places
    ).knows_deviation


def test_nothing_gives_nothing(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    weights = train(config("ridge"), split, places, tmp_path / "run")
    assert Predictor(config("ridge"), [weights] * 3, places=places)(split.residues[:0], split.lengths[:0]).shape == (
        3,
        0,
    )


def test_a_sequence_that_is_too_long_is_named(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    run = config("cnn")
    weights = train(run, split, places, tmp_path / "run")
    strict = replace(run, data=replace(run.data, max_length=32, truncate=False))
    longer = np.full((3, 40), ord("A"), dtype=np.uint8)
    with pytest.raises(SequenceError, match="40 residues") as caught:
        Predictor(strict, [weights], places=places)(longer, np.array([20, 32, 40]))
    assert caught.value.row == 2


def test_other_files_are_refused_by_name(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    good = train(config("ridge"), split, places, tmp_path / "ridge").read_bytes()
    other = train(config("cnn"), split, places, tmp_path / "cnn").read_bytes()
    path = tmp_path / "weights.safetensors"
    cases = {
        None: ("cannot be read", "No such file"),
        good[:-7]: ("damaged",),
        b"PK\x03\x04 pickled": ("not a file of weights",),
        other: ("another architecture than this Ridge", "there is no intercept"),
    }
    for content, words in cases.items():
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            Predictor(config("ridge"), [path], places=places)
        for word in (str(path), *words):
            assert word in str(caught.value)


def test_other_sizes_are_another_architecture(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    run = config("cnn")
    path = train(run, split, places, tmp_path / "run")
    wider = replace(run, model={**run.model, "channels": 44})
    with pytest.raises(UserError, match=r"decoder\.weight has the shape \(1, 86\) instead of \(1, 88\)"):
        Predictor(wider, [path], places=places)


def interrupted() -> None:
    raise InterruptedError


def test_predictions_that_nobody_waits_for_end(split: PreparedSplit, places: Places, tmp_path: Path) -> None:
    run = config("ridge")
    predictor = Predictor(run, [train(run, split, places, tmp_path / "run")], places=places)
    assert predictor.is_light
    with pytest.raises(InterruptedError):
        predictor(split.residues, split.lengths, check=interrupted)
