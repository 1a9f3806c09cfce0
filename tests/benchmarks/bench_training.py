"""How fast the CNN trains, against this machine's own matrix multiplication.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_training.py

Prints, for FLIP's and Flipper's networks with their batch size of 256, the seconds of an epoch (validation
included, through Lightning's `Trainer.fit`), the arithmetic of the epoch if every position were computed
densely, and that rate as a part of the rate of a plain matrix product, measured just before. The targets are
those of a machine with 180 GFLOP/s on two cores, scaled to this one. Nothing fails here: other work on the
machine could make it fail, above all where OpenMP's threads spin (OMP_WAIT_POLICY=PASSIVE lets them sleep).
"""

import logging
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.batches.datamodule import FitnessData
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Holdout
from models.cnn import CNN

N_THREADS = 2
N_WARM_UP = 2  # epochs before the clock counts
REFERENCE_GFLOPS = 180.0
KERNEL_SIZE = 5
N_RESIDUES = 22


@dataclass(frozen=True, kw_only=True)
class Case:
    """A published network on a published split, and the time an epoch may take."""

    task: str
    crop: str
    channels: int
    n_epochs: int
    target_s: float | None = None  # at 180 GFLOP/s
    target_ratio: float | None = None  # of the matmul rate

    def limit_s(self, gflops: float, tflop: float) -> float:
        """The time an epoch may take on a machine with that matmul rate."""
        if self.target_ratio is not None:
            return tflop * 1000 / (self.target_ratio * gflops)
        assert self.target_s is not None
        return self.target_s * REFERENCE_GFLOPS / gflops


CASES = (
    Case(task="gb1_two_vs_rest", crop="domain", channels=1024, n_epochs=8, target_ratio=0.7),
    Case(task="gb1_three_vs_rest", crop="none", channels=43, n_epochs=20, target_s=0.6),
    Case(task="aav_two_vs_many", crop="region", channels=43, n_epochs=12, target_s=0.35),
)


class Clock(Callback):
    """When each epoch began; validation lies between two beginnings."""

    def __init__(self) -> None:
        self.began_s: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began_s.append(time.perf_counter())


def matmul_gflops(size: int = 2048, n_products: int = 10) -> float:
    """The best rate of a float32 product of two square matrices, 2 size^3 operations."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    times_s = []
    for _ in range(n_products + 2):
        start = time.perf_counter()
        torch.mm(a, b)
        times_s.append(time.perf_counter() - start)
    return 2 * size**3 / min(times_s[2:]) / 1e9


def dense_tflop(n_train: int, n_validation: int, length: int, channels: int) -> float:
    """An epoch on all positions: forward for both parts, backward (twice the forward) for training."""
    forward = 2 * length * (KERNEL_SIZE * N_RESIDUES * channels + channels * 2 * channels)
    return forward * (3 * n_train + n_validation) / 1e12


def measure(case: Case, cache_dir: Path) -> tuple[float, float]:
    """Seconds and dense TFLOP of an epoch."""
    task = find_task(case.task)
    split = prepare(task, data_dir=None, cache_dir=cache_dir, announce=lambda _: None)
    fold = Holdout().folds(split, task)[0]
    seed_everything(0, verbose=False)
    model = CNN(
        kernel_size=KERNEL_SIZE,
        channels=case.channels,
        dropout=0.0,
        depth=1,
        lr_encoder=1e-3,
        lr_embedding=5e-5,
        lr_decoder=5e-6,
        weight_decay_encoder=0.0,
        weight_decay=0.05,
    )
    data = FitnessData(
        split=split, task=task, tokenizer=model.tokenizer, fold=fold, crop=case.crop, batch_size=256, seed=0
    )
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=N_WARM_UP + case.n_epochs + 1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    began_s = clock.began_s[N_WARM_UP:]
    epoch_s = statistics.median(end - begin for begin, end in pairwise(began_s))
    length = next(iter(data.train_dataloader())).tokens.shape[1]
    return epoch_s, dense_tflop(len(fold.train), len(fold.validation), length, case.channels)


def main() -> None:
    torch.set_num_threads(N_THREADS)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    print(f"torch {torch.__version__}, {N_THREADS} threads")
    with tempfile.TemporaryDirectory() as cache_dir:
        for case in CASES:
            gflops = matmul_gflops()
            epoch_s, tflop = measure(case, Path(cache_dir))
            limit_s = case.limit_s(gflops, tflop)
            print(
                f"{case.task} ({case.crop}), {case.channels} channels: {epoch_s:.3f} s per epoch, "
                f"dense {tflop:.3f} TFLOP = {1000 * tflop / epoch_s:.0f} GFLOP/s, "
                f"{1000 * tflop / epoch_s / gflops:.0%} of the matmul rate of {gflops:.0f} GFLOP/s; "
                f"target {limit_s:.3f} s: {'met' if epoch_s <= limit_s else 'MISSED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
