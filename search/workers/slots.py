"""Where the workers of this machine run: each has a slot, on a GPU or on a share of the cores."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from datasets.common.errors import UserError
from search.config.run_config import RunConfig
from search.machine.hardware import MEMORY_SHARE, usable_cores

Executor = Literal["process", "inline"]
"""Where trials run: each in a process of its own, or in the calling one, for a debugger and for tests."""
_CORES_BEFORE = 2
"""What `auto` gave a worker without a GPU in studies of earlier versions, which keep to it."""
_BYTES_OF_A_WORKER = 2**30
"""What a worker without a GPU takes of memory: its process and the one that trains, each with its libraries."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A worker's place on its machine.

    Args:
        name: `cuda:1`, the second of the visible GPUs, or `cpu:0`, the first of the workers without one.
        gpu: What CUDA_VISIBLE_DEVICES becomes; None leaves it as it is.
        n_threads: Of runs that name no `trainer.threads`; None is what `search.training.threads` says of each.
        n_cores: Those that a run may take, where no other worker does: with more of them than threads its folds train
            side by side (`search.training.folds`). None is as many as it has threads.
        memory_share: The part of the device's memory that a run may take, 0 to 1.
        gpu_share: The part of a GPU that is counted as used while a trial runs, 0 to 1; 0 without a GPU.
    """

    name: str
    gpu: str | None = None
    n_threads: int | None = None
    n_cores: int | None = None
    memory_share: float = 1.0
    gpu_share: float = 0.0

    def occupy(self) -> None:
        """Bind this process, and those it starts from now on, to the slot; before anything asks for GPUs."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        os.environ[MEMORY_SHARE] = str(self.memory_share)

    def uses(self, threads: int | None, *, cores: int = 1, n_folds: int = 1) -> dict[str, Any]:
        """What a trial that begins now is recorded to occupy.

        Args:
            threads: The `trainer.threads` of its run.
            cores: Those that the run may take.
            n_folds: So many of its folds could train at once.
        """
        of_each = threads or self.n_threads or usable_cores()
        cores = of_each * max(1, min(n_folds, cores // of_each))
        return {"cores": cores, "gpus": self.gpu_share, "since": time.time()}

    def fit(self, run: RunConfig) -> RunConfig:
        """The run with this slot's threads where it names none."""
        if run.trainer.threads is not None or self.n_threads is None:
            return run
        return replace(run, trainer=replace(run.trainer, threads=self.n_threads))


THIS_PROCESS = Slot(name="cpu:0")
"""All that this process may use, without a GPU."""


def make_slots(
    n_workers: int | None,
    *,
    trials_per_gpu: int,
    gpus: Sequence[str],
    n_cores: int,
    threads: int | None,
    n_trials: int,
    free_bytes: int,
) -> tuple[Slot, ...]:
    """One slot for each worker; GPUs are filled evenly. The machine decides how many there are, not their threads.

    Args:
        n_workers: None for as many as there are slots.
        trials_per_gpu: Slots of a GPU; without GPUs it has no meaning.
        gpus: The visible GPUs as CUDA_VISIBLE_DEVICES names them; none, where runs use the CPU.
        n_cores: Cores that this process may use.
        threads: Of each run; None is the worker's share of the cores, as in studies of earlier versions.
        n_trials: More workers than that have nothing to do.
        free_bytes: Of the machine's memory.

    Raises:
        UserError: More workers are wanted than the GPUs have slots.
    """
    if n_workers == 1:
        found = Slot(name="cuda:0", gpu_share=1 / trials_per_gpu) if gpus else replace(THIS_PROCESS, n_cores=n_cores)
        return (replace(found, n_threads=threads or n_cores),)
    if not gpus:
        room = n_cores // _CORES_BEFORE  # nothing else may count where the threads follow from it
        if threads is not None:
            room = min(n_cores // threads, n_trials, free_bytes // _BYTES_OF_A_WORKER)
        n = n_workers or max(1, room)
        of_each = threads or max(1, n_cores // n)
        alone = n_cores if n == 1 else None
        return tuple(
            Slot(name=f"cpu:{i}", n_threads=of_each, n_cores=alone, memory_share=round(1 / n, 6)) for i in range(n)
        )
    n_slots = len(gpus) * trials_per_gpu
    n = n_workers or n_slots
    if n > n_slots:
        raise UserError(
            f"--workers {n} is more than the {n_slots} slots of {len(gpus)} visible GPU(s): "
            f"let a GPU train several at once with --trials-per-gpu {-(-n // len(gpus))}, or ask for fewer workers."
        )
    return tuple(
        Slot(
            name=f"cuda:{i % len(gpus)}",
            gpu=gpus[i % len(gpus)],
            n_threads=threads or max(1, n_cores // n),
            memory_share=round(1 / len(range(i % len(gpus), n, len(gpus))), 6),
            gpu_share=1 / trials_per_gpu,
        )
        for i in range(n)
    )
