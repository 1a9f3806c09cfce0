"""An interrupted run goes on from its last state to the very numbers of an uninterrupted one, or begins anew."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

import search.training.build
import search.training.checkpoint.progress
import search.training.checkpoint.store
import search.training.fold
import search.training.stepwise
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from datasets.validation.protocols import KFold
from models.esm import ESM
from search.config.run_config import RunConfig
from search.study.config import StudyConfig, study_config
from search.training.checkpoint.files import FOLDER, has_state, remove_state
from search.training.checkpoint.store import StateWriter
from search.training.fit import fit
from search.training.predictions import VALIDATION
from search.training.result import Result
from search.training.trainer import build_trainer
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.esm_models import add_tiny_backbones, make_places

TASK = "synthetic_one_vs_rest"
N_EPOCHS = 3
TINY: dict[str, Any] = {"backbone": "esm2_tiny", "head_width": 8, "head_dropout": 0.3, "warmup_steps": 20}
MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"dropout": 0.3},
    "position": {"pooling": "position"},
    "epistasis": {"rank": 2, "lr": 0.1},
    "ridge": {},
    "frozen": {**TINY, "pooling": "attention"},
    "last_k": {**TINY, "adaptation": "last_k", "fine_tune_depth": 1},
    "lora": {**TINY, "adaptation": "lora", "lora_rank": 2},
}


class Killed(Exception):
    """Ends a run where a signal would have."""


class Trainer:
    """Trains in folders below one, and remembers what the runs reported and announced."""

    def __init__(self, split: PreparedSplit, places: Places, folder: Path) -> None:
        self.split, self.places, self.folder = split, places, folder
        self.reports: list[tuple[int, int, float | None]] = []
        self.said: list[str] = []

    def __call__(
        self,
        config: RunConfig,
        name: str,
        *,
        resume: str | None = None,
        until: tuple[int, int] | None = None,
        n_batches: int | None = None,
        stop_at: int | None = None,
    ) -> Result | None:
        """The run's result; None if it is killed once it reports `until`, or after so many batches."""
        self.reports, self.said = [], []
        left = [n_batches]
        told_to_stop: list[bool] = []

        def report(fold: int, epoch: int, value: float | None) -> None:
            self.reports.append((fold, epoch, value))
            if (fold, epoch) == until:
                raise Killed
            if epoch == stop_at:
                told_to_stop.append(True)

        def should_stop() -> bool:
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
            return bool(told_to_stop)

        try:
            return fit(
                config,
                self.split,
                places=self.places,
                directory=self.folder / name,
                report=report,
                announce=self.said.append,
                should_stop=should_stop,
                resume=None if resume is None else self.folder / resume,
            )
        except Killed:
            return None

    def weights(self, name: str, fold: int = 0) -> bytes:
        return (self.folder / name / f"fold{fold}.safetensors").read_bytes()

    def assert_equal(self, one: Result | None, other: Result | None) -> None:
        """Whatever a run is judged by; the time that it took is its own."""
        assert one is not None
        assert other is not None
        assert one.ending == other.ending
        assert one.values == other.values
        assert one.value == other.value
        assert one.best_epochs == other.best_epochs
        assert one.micro_batch_tokens == other.micro_batch_tokens
        assert one.n_parameters == other.n_parameters
        assert one.backbone == other.backbone
        for a, b in zip(one.checkpoints, other.checkpoints, strict=True):
            assert Path(a).read_bytes() == Path(b).read_bytes()
        if one.ending == "complete":
            first, second = (Path(result.checkpoints[0]).with_name(VALIDATION) for result in (one, other))
            assert first.read_bytes() == second.read_bytes()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    cache = tmp_path_factory.mktemp("prepared")
    return prepare(find_task(TASK), data_dir=None, cache_dir=cache, announce=lambda sentence: None)


@pytest.fixture
def train(split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """States are written after each epoch, however short it is."""
    add_tiny_backbones(monkeypatch)
    monkeypatch.setattr(search.training.checkpoint.store, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(search.training.checkpoint.store, "_MAX_SHARE", float("inf"))
    return Trainer(split, make_places(tmp_path, "esm2_tiny"), tmp_path)


@cache
def composed(group: str) -> StudyConfig:
    words = [f"model={group}", "trainer.threads=1", "logger=none", "data.batch_size=16", "validation=holdout"]
    return study_config([f"task={TASK}", *words])


def config(name: str, **trainer: Any) -> RunConfig:
    run = composed({"position": "cnn"}.get(name, name if name in ("cnn", "ridge", "epistasis") else "esm")).run({})
    settings = replace(run.trainer, **{"max_epochs": N_EPOCHS, "limit_train_batches": 4, **trainer})
    return replace(run, model={**run.model, **MODELS[name]}, trainer=settings)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("cnn", 1),
        ("position", 1),
        ("epistasis", 1),
        ("ridge", 2),
        ("frozen", 2),
        pytest.param("last_k", 1, marks=pytest.mark.system),
        ("lora", 2),
    ],
)
def test_values_weights_and_reports_are_those_of_an_uninterrupted_run(name: str, epoch: int, train: Trainer) -> None:
    undisturbed = train(config(name), "undisturbed")
    reports = train.reports
    assert train(config(name), "first", until=(0, epoch)) is None
    resumed = train(config(name), "second", resume="first")
    assert train.said == [f"The run goes on from its state after epoch {epoch - 1} of fold 0."]
    assert train.reports == reports
    train.assert_equal(undisturbed, resumed)


def test_a_run_without_validation_goes_on_to_the_same_weights(train: Trainer) -> None:
    run = replace(config("position"), validation={"_target_": "datasets.whole_training.TrainAndValidation"})
    assert train(run, "undisturbed") is not None
    assert train(run, "first", n_batches=8) is None
    assert train(run, "second", resume="first") is not None
    assert train.said == ["The run goes on from its state of fold 0."]
    assert train.weights("second") == train.weights("undisturbed")


@pytest.mark.slow
def test_a_run_is_interrupted_in_the_middle_of_an_epoch_and_again_before_the_next_one_ends(train: Trainer) -> None:
    run = config("lora", micro_batch_tokens=100, gradient_clip=0.1)
    undisturbed = train(run, "undisturbed")
    assert train(run, "first", n_batches=7) is None
    assert len(train.reports) == 1
    assert train(run, "second", resume="first", n_batches=1) is None
    assert not has_state(train.folder / "first")
    resumed = train(run, "third", resume="second")
    assert train.said == ["The run goes on from its state after epoch 0 of fold 0."]
    train.assert_equal(undisturbed, resumed)


@pytest.mark.system
def test_the_scale_of_half_precision_gradients_goes_on(train: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[list[float]] = []

    def with_scaler(*arguments: Any, **settings: Any) -> Any:
        trainer = build_trainer(*arguments, **settings)
        # So large that the first steps are left out, and soon grown again: as on a GPU, but in less time.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=3)
        trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        seen: list[float] = []
        scales.append(seen)
        update = scaler.update
        monkeypatch.setattr(scaler, "update", lambda *a: (update(*a), seen.append(scaler.get_scale())))
        return trainer

    monkeypatch.setattr(search.training.stepwise, "build_trainer", with_scaler)
    undisturbed = train(config("last_k"), "undisturbed")
    assert len(set(scales[0])) > 1, "the scale was to change"
    assert train(config("last_k"), "first", until=(0, 1)) is None
    train.assert_equal(undisturbed, train(config("last_k"), "second", resume="first"))
    assert scales[2] == scales[0][-len(scales[2]) :]


def test_a_folder_goes_on_from_its_own_state(train: Trainer) -> None:
    undisturbed = train(config("cnn"), "undisturbed")
    assert train(config("cnn"), "first", until=(0, 2)) is None
    train.assert_equal(undisturbed, train(config("cnn"), "first", resume="first"))


@pytest.mark.slow
@pytest.mark.parametrize("until", [(0, 2), (1, 0), (1, 1)])
def test_finished_folds_are_not_trained_again(until: tuple[int, int], train: Trainer) -> None:
    run = replace(config("cnn"), validation=KFold(n_folds=2, seed=0).tree)
    undisturbed = train(run, "undisturbed")
    reports = train.reports
    assert train(run, "first", until=until) is None
    resumed = train(run, "second", resume="first")
    fold, epoch = until if until != (1, 0) else (0, N_EPOCHS)
    assert train.said == [f"The run goes on from its state after epoch {epoch - 1} of fold {fold}."]
    assert train.reports == reports
    assert resumed is not None
    assert len(resumed.checkpoints) == 2
    train.assert_equal(undisturbed, resumed)


def test_a_run_whose_result_was_lost_has_nothing_left_to_train(train: Trainer) -> None:
    undisturbed = train(config("ridge", max_epochs=1), "first")
    resumed = train(config("ridge", max_epochs=1), "second", resume="first", n_batches=1)
    train.assert_equal(undisturbed, resumed)


def test_early_stopping_goes_on_counting(train: Trainer) -> None:
    run = config("cnn", max_epochs=60, patience=3)
    undisturbed = train(run, "undisturbed")
    assert undisturbed is not None
    n_epochs = len(undisturbed.values[0])
    assert n_epochs < 60, "the run was to stop early"
    assert train(run, "first", until=(0, n_epochs - 1)) is None
    train.assert_equal(undisturbed, train(run, "second", resume="first"))


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_verdict_may_come_at_an_epoch_that_is_reported_again(stop_at: int, train: Trainer) -> None:
    run = config("cnn", max_epochs=9)
    undisturbed = train(run, "undisturbed", stop_at=stop_at)
    assert undisturbed is not None
    assert undisturbed.ending == "stopped"
    assert train(run, "first", until=(0, 3)) is None
    resumed = train(run, "second", resume="first", stop_at=stop_at)
    assert resumed is not None
    assert (resumed.ending, resumed.value) == ("stopped", None)
    # The process finds out after the next batch: its parent drops what comes after the verdict.
    n_epochs = len(undisturbed.values[0])
    assert resumed.values[0][:n_epochs] == undisturbed.values[0]


def test_time_and_computed_features_of_all_parts_count(train: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config("frozen")
    whole = train(run, "undisturbed")
    assert whole is not None
    assert whole.n_embedded > 0
    train.places = replace(train.places, cache_dir=train.folder / "another cache")
    assert train(run, "first", until=(0, 2)) is None
    state = torch.load(part(train.folder / "first", "training.*"), weights_only=True)
    resumed = train(run, "second", resume="first")
    assert resumed is not None
    assert resumed.n_embedded == whole.n_embedded
    assert resumed.seconds > state["seconds"] > 0
    assert resumed.cpu_s is not None
    assert resumed.cpu_s > state["cpu_s"] > 0
    assert resumed.peak_memory_bytes >= state["peak_memory_bytes"] > 0


@pytest.mark.system
def test_parts_of_a_batch_stay_what_they_were_whatever_memory_is_free_now(
    train: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(config("lora"), "undisturbed")
    assert undisturbed is not None
    assert undisturbed.micro_batch_tokens is None
    assert train(config("lora"), "first", until=(0, 2)) is None
    monkeypatch.setattr(search.training.fold, "free_memory_bytes", lambda device: 2**20)
    monkeypatch.setattr(search.training.memory, "MIN_EVAL_TOKENS", 34)
    smaller = train(config("lora"), "smaller")
    assert smaller is not None
    assert smaller.micro_batch_tokens == 8 * 34, "the memory was to be too little"
    train.assert_equal(undisturbed, train(config("lora"), "second", resume="first"))


@pytest.mark.system
def test_out_of_memory_begins_anew_in_smaller_parts_and_reports_what_was_said_before(
    train: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ESM.forward
    n_passes = [0]

    def limited(self: ESM, batch: Any) -> Any:
        n_passes[0] += torch.is_grad_enabled()
        if n_passes[0] > 20 and batch.tokens.numel() > 200 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, batch)

    monkeypatch.setattr(ESM, "forward", limited)
    run = config("lora", limit_train_batches=8)
    undisturbed = train(run, "undisturbed")
    reports = train.reports
    assert undisturbed is not None
    assert undisturbed.micro_batch_tokens == 4 * 34
    assert (0, 0) in [(fold, epoch) for fold, epoch, _ in reports]
    n_passes[0] = 0
    n_batches = 34  # in the second epoch of the last attempt: both validated before, and validations count
    assert train(run, "first", n_batches=n_batches) is None
    resumed = train(run, "second", resume="first")
    assert train.said == ["The run goes on from its state after epoch 0 of fold 0."]
    train.assert_equal(undisturbed, resumed)
    assert train.reports == reports


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def part(folder: Path, pattern: str) -> Path:
    return next((folder / FOLDER).glob(pattern))


def change_manifest(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest = json.loads(path.read_text())
        manifest[key] = value
        path.write_text(json.dumps(manifest))

    return change


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("training.*", truncate),
        ("training.*", flip),
        ("training.*", Path.unlink),
        ("fold0.*", flip),
        ("fold0.*", Path.unlink),
        ("manifest.json", truncate),
        ("manifest.json", flip),
        ("manifest.json", Path.unlink),
    ],
)
def test_a_damaged_state_is_ignored(pattern: str, damage: Callable[[Path], None], train: Trainer) -> None:
    run = config("ridge", max_epochs=3)
    assert train(run, "first", until=(0, 2)) is None
    damage(part(train.folder / "first", pattern))
    resumed = train(run, "second", resume="first")
    (sentence,) = train.said
    assert sentence.startswith(f"The state in {train.folder / 'first'} is not used: it")
    assert sentence.endswith("The run begins anew.")
    assert resumed is not None
    assert resumed.ending == "complete"
    assert [epoch for _, epoch, _ in train.reports] == [0, 1, 2]


@pytest.mark.parametrize(
    "change", [change_manifest("format", 99), change_manifest("weights", {"../../fold0.safetensors": "0" * 64})]
)
def test_a_manifest_of_somebody_else_is_ignored(change: Callable[[Path], None], train: Trainer) -> None:
    run = config("ridge", max_epochs=3)
    assert train(run, "first", until=(0, 2)) is None
    change(part(train.folder / "first", "manifest.json"))
    assert train(run, "second", resume="first") is not None
    assert "it is damaged, or of another version" in train.said[0]


def test_no_state_at_all_is_said(train: Trainer) -> None:
    assert train(config("ridge"), "second", resume="nowhere") is not None
    assert "it cannot be read (No such file or directory)" in train.said[0]


def test_a_state_with_code_in_it_is_never_run(train: Trainer) -> None:
    run = config("ridge", max_epochs=3)
    assert train(run, "first", until=(0, 2)) is None

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (train.folder / "trapped",)

    # Even one whose checksums are right.
    StateWriter(train.folder / "first", print).write(
        {"progress": Trap()}, {}, search.training.checkpoint.progress.about(run, train.split, threads=1, backbone=None)
    )
    assert train(run, "second", resume="first") is not None
    assert "it is damaged (UnpicklingError)" in train.said[0]
    assert not (train.folder / "trapped").exists()


def other_data(train: Trainer) -> None:
    train.split = replace(train.split, data_hash="0" * 64)


def other_weights(train: Trainer) -> None:
    assert train.places.weights_dir is not None
    write_checkpoint(train.places.weights_dir, "esm2_tiny", seed=1)


@pytest.mark.parametrize(
    ("name", "changes", "also", "named"),
    [
        ("ridge", {"threads": 2}, None, "run.trainer.threads: 1 -> 2"),
        ("cnn", {"patience": 7}, None, "run.trainer.patience: 20 -> 7"),
        ("ridge", {}, other_data, "data_hash: "),
        ("frozen", {}, other_weights, 'backbone: "sha256:'),
    ],
)
def test_the_state_of_another_run_is_ignored(
    name: str, changes: dict[str, Any], also: Callable[[Trainer], None] | None, named: str, train: Trainer
) -> None:
    assert train(config(name), "first", until=(0, 2)) is None
    if also is not None:
        also(train)
    other = config(name, **changes)
    resumed = train(other, "second", resume="first")
    assert f"it belongs to another run ({named}" in train.said[0]
    assert [epoch for _, epoch, _ in train.reports] == list(range(N_EPOCHS))
    assert has_state(train.folder / "first")
    train.assert_equal(train(other, "undisturbed"), resumed)


@pytest.mark.parametrize("module", ["machine_kind", "package_versions", "code_hash"])
def test_so_is_that_of_another_machine_or_version(module: str, train: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(config("ridge"), "first", until=(0, 2)) is None
    monkeypatch.setattr(f"search.training.checkpoint.progress.{module}", lambda *_: "another")
    assert train(config("ridge"), "second", resume="first") is not None
    assert "it belongs to another run" in train.said[0]


def test_logs_of_all_parts_are_found_together(train: Trainer) -> None:
    run = replace(config("ridge"), logger={"_target_": "lightning.pytorch.loggers.CSVLogger"})
    assert train(run, "first", until=(0, 1)) is None
    assert train(run, "second", resume="first", until=(0, 2)) is None
    assert train(run, "third", resume="second") is not None
    epochs = [
        [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
        for path in sorted((train.folder / "third" / "logs").glob("fold0*/metrics.csv"))
    ]
    assert {epoch for part_of_run in epochs for epoch in part_of_run} == {"0", "1", "2"}
    assert len(epochs) == 3


def test_logger_and_cache_may_be_others(train: Trainer) -> None:
    assert train(config("frozen"), "first", until=(0, 2)) is None
    other = replace(
        config("frozen"),
        logger={"_target_": "lightning.pytorch.loggers.CSVLogger"},
        cache=replace(config("frozen").cache, max_gb=0.5),
    )
    assert train(other, "second", resume="first") is not None
    assert "goes on" in train.said[0]


def test_a_run_goes_on_where_its_state_cannot_be_written_and_says_so_once(train: Trainer) -> None:
    (train.folder / "first").mkdir()
    (train.folder / "first" / FOLDER).write_text("in the way")
    undisturbed = train(config("cnn"), "undisturbed")
    result = train(config("cnn"), "first")
    (sentence,) = train.said
    assert "cannot be kept" in sentence
    assert "File exists" in sentence
    train.assert_equal(undisturbed, result)


def test_only_one_state_stands_there_and_it_is_removed_whole(train: Trainer) -> None:
    assert train(config("cnn"), "first", until=(0, 2)) is None
    names = sorted(path.name.split(".")[0] for path in (train.folder / "first" / FOLDER).iterdir())
    assert names == ["fold0", "manifest", "training"]
    remove_state(train.folder / "first")
    assert [path.name for path in (train.folder / "first").iterdir()] == ["fold0.safetensors"]
    remove_state(train.folder / "first")


def test_the_frozen_part_is_not_written(train: Trainer) -> None:
    assert train(config("lora"), "first", until=(0, 2)) is None
    state = torch.load(part(train.folder / "first", "training.*"), weights_only=True)
    n_written = sum(tensor.numel() for tensor in state["fold"]["model"].values())
    model = search.training.build.build_model(config("lora"))
    model.build(train.places)
    n_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert n_trained <= n_written < model.n_parameters / 2


def test_short_runs_and_those_with_callbacks_of_their_own_write_no_state(
    train: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = {"_target_": "lightning.pytorch.callbacks.Timer"}
    assert train(config("ridge", callbacks=[timer]), "callbacks") is not None
    monkeypatch.undo()
    assert train(config("ridge"), "short") is not None
    assert not has_state(train.folder / "callbacks")
    assert not has_state(train.folder / "short")
