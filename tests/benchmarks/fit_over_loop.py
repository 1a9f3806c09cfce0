"""How long an epoch takes in `Trainer.fit` as our runs call it, against a bare loop over the same model and batches.

    [FLIPSEARCH_DATA=...] python tests/benchmarks/fit_over_loop.py [--threads N] [--epochs N] [--rounds N]

Three sizes of the CNN, on GB1's `three_vs_rest` where `$FLIPSEARCH_DATA` has it, otherwise on the synthetic landscape;
on a GPU if there is one. The bare loop calls the model, the loss, `backward` and the same optimizer, and nothing else.
Nothing is validated in either. Fit and loop take turns; the ratio is of the medians of their epochs.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.build import build_data, build_model, folds_of
from search.training.trainer import build_trainer, quieten

TASK = "gb1_three_vs_rest" if os.environ.get("FLIPSEARCH_DATA") else "synthetic_two_vs_rest"
SIZES = ((43, 256), (43, 64), (24, 32))  # channels, batch size


class Clock(Callback):
    """The seconds of each epoch but the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began_s: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        if self._began_s is not None and trainer.current_epoch > 1:
            self.seconds.append(now - self._began_s)
        self._began_s = now


def compare(config: RunConfig, split: PreparedSplit, n_rounds: int) -> tuple[float, float]:
    """The median seconds of an epoch in `fit`, and in a bare loop."""
    fitted: list[float] = []
    bare: list[float] = []
    fold = folds_of(config, split)[0]
    for _ in range(n_rounds):
        model, clock = build_model(config), Clock()
        data = build_data(config, split, model, fold, 0)
        with tempfile.TemporaryDirectory() as directory:
            trainer = build_trainer(config, Path(directory), 0, [clock], is_judged=False, stops_early=False)
            trainer.fit(model, datamodule=data)
        fitted += clock.seconds
        model = build_model(config).to(trainer.strategy.root_device).train()
        optimizer, loader = model.configure_optimizers(), data.train_dataloader()
        assert isinstance(optimizer, torch.optim.Optimizer)
        for epoch in range(config.trainer.max_epochs):
            start = time.perf_counter()
            for batch in loader:
                functional.mse_loss(model(batch), batch.target).backward()
                optimizer.step()
                optimizer.zero_grad()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if epoch:
                bare.append(time.perf_counter() - start)
    return statistics.median(fitted), statistics.median(bare)


def main() -> None:
    parser = argparse.ArgumentParser(description="An epoch in fit, against a bare loop.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(options.threads)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as in a run
    with tempfile.TemporaryDirectory() as folder:
        split = prepare(find_task(TASK), data_dir=None, cache_dir=Path(folder), announce=lambda sentence: None)
        for channels, batch_size in SIZES:
            size = [f"model.channels={channels}", f"data.batch_size={batch_size}"]
            words = [f"task={TASK}", "model=cnn", "validation=holdout", "logger=none", *size]
            config = study_config([*words, f"trainer.max_epochs={options.epochs}"]).run({})
            fit_s, loop_s = compare(config, split, options.rounds)
            print(
                f"{TASK}, {channels} channels, batches of {batch_size}: an epoch of fit {fit_s:.3f} s, of a bare loop "
                f"{loop_s:.3f} s, ratio {fit_s / loop_s:.2f} (goal: 1.20)",
                flush=True,
            )


if __name__ == "__main__":
    main()
