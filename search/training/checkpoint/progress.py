"""What is known of a run so far, and what its numbers depend on."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from datasets.splits.prepared import PreparedSplit
from search.checkout import ROOT
from search.config.run_config import RunConfig
from search.machine import own_models
from search.machine.environment import machine_kind, package_versions
from search.training.callbacks import Report

_PACKAGES = ("datasets", "models", "search")


@dataclass
class Progress:
    """What is known of a run so far, kept outside of it so that running out of memory loses none of it.

    `values` has a list more than the others while a fold is trained. `checkpoints` are names of files in the run's
    folder. `rows` are those of the prepared split that a fold validated, in the order of its `predictions`.
    """

    values: list[list[float | None]] = field(default_factory=list)
    best_epochs: list[int | None] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    n_parameters: int = 0
    max_residues: int | None = None
    device: str = "cpu"
    micro_batch_tokens: int | None = None
    smaller: int | None = None  # the next size to try when memory runs out
    backbone: str | None = None
    n_embedded: int = 0  # sequences that passed through frozen layers, when memory ran out afterwards too

    def finished(self) -> "Progress":
        """The folds that are finished."""
        return replace(self, values=self.values[: len(self.checkpoints)])

    def state(self) -> dict[str, Any]:
        """The same as plain values and tensors."""
        return dict(vars(self))


class Reports:
    """Tells each validation once, in order: a run that starts again repeats itself.

    Attributes:
        told: (fold, epoch, value) of all that was told.
    """

    def __init__(self, report: Report) -> None:
        self.told: list[tuple[int, int, float | None]] = []
        self._report = report
        self._seen: set[tuple[int, int]] = set()

    def __call__(self, fold: int, epoch: int, value: float | None) -> None:
        """Tell it, unless this fold's epoch was told before."""
        if (fold, epoch) not in self._seen:
            self._seen.add((fold, epoch))
            self.told.append((fold, epoch, value))
            self._report(fold, epoch, value)


def about(config: RunConfig, split: PreparedSplit, *, threads: int, backbone: str | None) -> Mapping[str, Any]:
    """All that the numbers of a run depend on: equal where these are equal, bit for bit."""
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    run = asdict(replace(config, trainer=replace(config.trainer, threads=threads)))
    own_model = own_models.source_hash(str(config.model["_target_"]))
    return {
        "run": {key: value for key, value in run.items() if key not in ("cache", "logger")},
        "data_hash": split.data_hash,
        "backbone": backbone,
        "machine": machine_kind("cuda:0" if on_gpu else "cpu"),
        "versions": package_versions(),
        "code": code_hash(),
        **({} if own_model is None else {"model_source": own_model}),
    }


@cache
def code_hash() -> str:
    """Hash of the program's own modules. Asked first before a process forks, it is that of what was loaded."""
    found = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()
