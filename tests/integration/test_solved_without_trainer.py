"""Models that are solved at once: without a Trainer, to the bits of one, and one after another in one child."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import search.training.trainer
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from models.ridge import Ridge
from search.config.run_config import RunConfig
from search.storage.ending import Ending
from search.study.config import study_config
from search.training.fit import fit
from search.training.result import Result
from search.training.solved import needs_trainer
from search.workers.child import prepare_children
from search.workers.jobs import isolated_run
from search.workers.messages import Failure, Message
from search.workers.reused import Reused, may_follow

TASK = "synthetic_two_vs_rest"
TIMER: dict[str, Any] = {"_target_": "lightning.pytorch.callbacks.Timer"}  # a callback that changes nothing
SMALL_FOREST = ("model.n_trees=5",)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("splits")
    return prepare(find_task(TASK), data_dir=None, cache_dir=folder, announce=lambda sentence: None)


def run_of(*words: str) -> RunConfig:
    return study_config([f"task={TASK}", "trainer.threads=1", "logger=none", *words]).run({})


def trained(run: RunConfig, split: PreparedSplit, folder: Path) -> tuple[Result, list[tuple[int, int, float | None]]]:
    told: list[tuple[int, int, float | None]] = []
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    result = fit(run, split, places=places, directory=folder, report=lambda *value: told.append(value))
    return result, told


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """The Trainers that are built."""
    built: list[Trainer] = []

    class Counted(Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            built.append(self)

    monkeypatch.setattr(search.training.trainer.pl, "Trainer", Counted)
    return built


@pytest.mark.parametrize("validation", ["kfold", "holdout", "without_rise"])
@pytest.mark.parametrize(
    "words",
    [
        ("model=ridge",),
        ("model=ridge", "trainer.target_transform=rank_normal"),
        ("model=kernel", "model.similarity=blosum62"),
        pytest.param(("model=kernel", "model.relevance=true"), marks=pytest.mark.slow),
        ("model=forest", *SMALL_FOREST),
    ],
    ids=lambda words: "-".join(word.partition("=")[2] for word in words),
)
def test_the_bits_are_those_of_a_trainer(
    words: tuple[str, ...], validation: str, split: PreparedSplit, trainers: list[Trainer], tmp_path: Path
) -> None:
    run = run_of(*words, f"validation={validation}")
    result, told = trained(run, split, tmp_path / "solved")
    assert not trainers, "without one"
    by_trainer = replace(run, trainer=replace(run.trainer, callbacks=[TIMER]))
    expected, expected_told = trained(by_trainer, split, tmp_path / "trained")
    assert len(trainers) == len(expected.values)

    assert result.ending == Ending.COMPLETE
    assert told == expected_told
    for name in ("value", "values", "best_epochs", "excess_rise", "n_parameters", "device", "micro_batch_tokens"):
        assert getattr(result, name) == getattr(expected, name), name
    files = sorted(path.name for path in (tmp_path / "trained").glob("*.safetensors"))
    assert files == sorted(path.name for path in (tmp_path / "solved").glob("*.safetensors"))
    for name in files:
        assert (tmp_path / "solved" / name).read_bytes() == (tmp_path / "trained" / name).read_bytes(), name


def test_a_logger_hears_what_a_trainer_would_have_told_it(split: PreparedSplit, tmp_path: Path) -> None:
    logger = {"_target_": "lightning.pytorch.loggers.CSVLogger"}
    run = replace(run_of("model=ridge", "validation=kfold"), logger=logger)
    trained(run, split, tmp_path / "solved")
    trained(replace(run, trainer=replace(run.trainer, callbacks=[TIMER])), split, tmp_path / "trained")
    for fold in range(5):
        own, expected = (tmp_path / how / "logs" / f"fold{fold}" / "metrics.csv" for how in ("solved", "trained"))
        assert own.read_text() == expected.read_text()
        assert "val_spearman" in own.read_text()


@pytest.mark.parametrize(
    "words",
    [("trainer.precision=bf16-mixed",), ("trainer.limit_train_batches=2",), ("trainer.detect_anomaly=true",)],
    ids=lambda words: words[0],
)
def test_what_a_trainer_alone_can_do_is_left_to_one(
    words: tuple[str, ...], split: PreparedSplit, trainers: list[Trainer], tmp_path: Path
) -> None:
    result, _ = trained(run_of("model=ridge", "validation=kfold", *words), split, tmp_path)
    assert result.ending == Ending.COMPLETE
    assert len(trainers) == 5


class Logs(Ridge):
    """Tells loggers what it has found."""

    def solve(self, *args: Any, **beside: Any) -> None:
        super().solve(*args, **beside)
        self._tell()

    def _tell(self) -> None:
        self.log("intercept", self.intercept)


class Asks(Ridge):
    """Looks at its Trainer, in a function of its own."""

    def solve(self, *args: Any, **beside: Any) -> None:
        assert [self.trainer.max_epochs for _ in range(1)] == [1]
        super().solve(*args, **beside)


class Knows(Ridge):
    """Does nothing of the kind."""

    def solve(self, *args: Any, **beside: Any) -> None:
        super().solve(*args, **beside)


def test_a_model_that_logs_or_looks_at_its_trainer_has_one() -> None:
    run = run_of("model=ridge")
    assert [needs_trainer(kind(alpha=1.0), run) for kind in (Ridge, Knows, Logs, Asks)] == [False, False, True, True]


def test_it_stops_between_folds_when_told_to(split: PreparedSplit, tmp_path: Path) -> None:
    told: list[float | None] = []
    result = fit(
        run_of("model=ridge", "validation=kfold"),
        split,
        places=Places(weights_dir=None, cache_dir=tmp_path / "cache"),
        directory=tmp_path,
        report=lambda fold, epoch, value: told.append(value),
        should_stop=lambda: len(told) >= 2,
    )
    assert result.ending == Ending.STOPPED
    assert len(told) == 2


def test_predictions_that_overflow_are_a_divergence(split: PreparedSplit, tmp_path: Path) -> None:
    huge = replace(split, target=split.target * 1e38)
    result, told = trained(run_of("model=ridge", "validation=kfold"), huge, tmp_path)
    assert result.ending == Ending.DIVERGED
    assert "fold 0" in result.reason
    assert len(told) == 1


class Runs:
    """Runs of ridge in children, which may follow each other."""

    def __init__(self, split: PreparedSplit, folder: Path) -> None:
        self.run = run_of("model=ridge", "validation=kfold")
        self.reused = Reused()
        self._split, self._folder, self._n = split, folder, 0

    def __call__(self, *, kill: bool = False, stop: bool = False) -> tuple[Message, int]:
        """The last message of a run, and the process that it ran in."""
        self._n += 1
        places = Places(weights_dir=None, cache_dir=self._folder / "cache")
        folder = self._folder / f"run{self._n}"
        lent: Any = isolated_run(self.run, self._split.path, places, folder, start=self.reused)
        pid = int(lent._child._process.pid)
        if kill:
            os.kill(pid, signal.SIGKILL)
        if stop:
            lent.stop()
        try:
            while not isinstance(message := lent.next_message(60), Result | Failure):
                assert message is not None, "silent for a minute"
            return message, pid
        finally:
            lent.close()


@pytest.fixture
def runs(split: PreparedSplit, tmp_path: Path) -> Iterator[Runs]:
    prepare_children()
    found = Runs(split, tmp_path)
    yield found
    found.reused.close()


def test_runs_follow_each_other_in_one_child_with_the_same_numbers(runs: Runs, tmp_path: Path) -> None:
    (first, pid), (second, same) = runs(), runs()
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert pid == same
    assert (first.value, first.values) == (second.value, second.values)
    for fold in range(5):
        name = f"fold{fold}.safetensors"
        assert (tmp_path / "run1" / name).read_bytes() == (tmp_path / "run2" / name).read_bytes()
    assert (tmp_path / "run2" / "log.txt").exists()


def test_a_crash_takes_down_its_own_run_alone(runs: Runs) -> None:
    _, pid = runs()
    lost, same = runs(kill=True)
    assert pid == same
    assert isinstance(lost, Failure)
    assert lost.kind == "lost"
    result, other = runs()
    assert isinstance(result, Result)
    assert other != pid


def test_a_child_that_died_between_runs_is_replaced(runs: Runs) -> None:
    _, pid = runs()
    idle = runs.reused._idle
    assert idle is not None
    os.kill(pid, signal.SIGKILL)
    idle._process.join(30)
    result, other = runs()
    assert isinstance(result, Result)
    assert other != pid


def test_a_child_is_kept_where_the_folder_of_the_next_run_cannot_be_made(runs: Runs, tmp_path: Path) -> None:
    _, pid = runs()
    folder = tmp_path / "run2"
    folder.write_text("in the way")
    with pytest.raises(FileExistsError):
        runs()
    folder.unlink()
    result, same = runs()
    assert isinstance(result, Result)
    assert same == pid


def test_a_run_that_was_told_to_stop_leaves_its_child_to_nobody(runs: Runs) -> None:
    _, pid = runs(stop=True)
    result, other = runs()
    assert isinstance(result, Result)
    assert result.ending == Ending.COMPLETE
    assert other != pid


def test_the_memory_of_a_run_is_its_own(runs: Runs) -> None:
    peaks = [message.peak_memory_bytes for message, _ in (runs() for _ in range(3)) if isinstance(message, Result)]
    assert len(peaks) == 3
    assert max(peaks) < 1.5 * min(peaks)


def test_only_the_programs_own_exact_models_follow_each_other() -> None:
    ridge = run_of("model=ridge")
    assert may_follow(ridge)
    assert not may_follow(replace(ridge, trainer=replace(ridge.trainer, callbacks=[TIMER])))
    assert not may_follow(run_of("model=cnn"))


def test_threads_are_those_of_the_run(split: PreparedSplit, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run = run_of("model=ridge", "validation=holdout")
        two = replace(run, trainer=replace(run.trainer, threads=2))
        assert [trained(one, split, tmp_path / f"{i}")[0].threads for i, one in enumerate((run, two))] == [1, 2]
    finally:
        torch.set_num_threads(before)
