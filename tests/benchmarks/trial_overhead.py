"""The measurements of bench_trial_overhead.py."""

import statistics
import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl
import torch

from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Holdout
from search.storage.database import open_database
from search.storage.url import default_url
from search.study.artifacts import Artifacts
from search.study.config import study_config
from search.study.study import manifest, open_study
from search.training.build import build_data, build_model
from search.training.trainer import quieten
from search.workers.child import prepare_children
from search.workers.display import Display
from search.workers.signals import Signals
from search.workers.worker import Worker, make_pruner

N_TRIALS = 12
N_EPOCHS = 10
GOAL_S = 0.3
OVERRIDES = [
    "task=synthetic_two_vs_rest",
    "model=cnn",
    f"trainer.max_epochs={N_EPOCHS}",
    "trainer.threads=2",
    "pruner=nop",
    "validation=holdout",
    # All but the dropout is fixed, so that trials take the same time.
    *("model.kernel_size=5", "model.channels=43", "model.depth=1", "model.weight_decay=0.05", "data.batch_size=256"),
    *("model.lr_encoder=1e-3", "model.lr_embedding=5e-5", "model.lr_decoder=5e-6"),
]


class Clock(Display):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.ends = [time.perf_counter()]

    def end(self, trial: object, trials: object) -> None:
        """A trial ended."""
        self.ends.append(time.perf_counter())


def trial_seconds(folder: Path) -> list[float]:
    """Wall seconds from the end of one trial to the end of the next, the first left out (it waits for imports)."""
    prepare_children()
    config = study_config(OVERRIDES)
    split = prepare(find_task(config.task), data_dir=None, cache_dir=folder / "cache", announce=print)
    database = open_database(default_url(folder), create=True)
    study = open_study(database, "bench", manifest(config, data_hash="", label="", model="cnn"))
    study.pruner = make_pruner(config)
    clock = Clock()
    Worker(
        study=study,
        database=database,
        config=config,
        split=split.path,
        places=Places(weights_dir=None, cache_dir=folder / "cache"),
        directory=folder / "bench",
        n_target=N_TRIALS + 1,
        max_failures=1,
        signals=Signals(print),
        display=clock,
        artifacts=Artifacts(directory=folder / "bench", keep_top=5, announce=print),
    ).work()
    return [b - a for a, b in zip(clock.ends[1:], clock.ends[2:], strict=False)]


def bare_seconds(folder: Path) -> list[float]:
    """Wall seconds of `Trainer.fit` alone in a warm process."""
    quieten()
    torch.set_num_threads(2)
    config = study_config(OVERRIDES)
    run = config.run({})
    split = prepare(find_task(config.task), data_dir=None, cache_dir=folder / "cache", announce=print)
    fold = Holdout().folds(split, find_task(config.task))[0]
    seconds = []
    for _ in range(N_TRIALS + 1):
        model = build_model(run)
        data = build_data(run, split, model, fold, 0)
        trainer = pl.Trainer(
            max_epochs=N_EPOCHS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        started = time.perf_counter()
        trainer.fit(model, datamodule=data)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        trials = statistics.median(trial_seconds(Path(name)))
        bare = statistics.median(bare_seconds(Path(name)))
    print(f"trial of {N_EPOCHS} epochs: {trials:.3f} s; bare Trainer.fit: {bare:.3f} s (medians of {N_TRIALS})")
    verdict = "met" if trials - bare <= GOAL_S else "missed"
    print(f"overhead a trial: {trials - bare:.3f} s; goal at most {GOAL_S} s: {verdict}")
