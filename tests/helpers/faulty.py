"""A model that does what it is told to, such as failing, and a copy of the program."""

import shutil
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from search.machine import own_models
from tests.helpers.answers import Answer, run_here
from tests.helpers.own_folder import write
from tests.helpers.processes import ROOT

MODEL = """
import errno
import os
import random
import signal
import time
from typing import Literal

import numpy as np
import torch

from models.bounds import PositiveFloat
from models.fitness_model import FitnessModel

CUDA_FAULT = "CUDA error: unspecified launch failure\\nCUDA kernel errors might be asynchronously reported"
Mode = Literal[
    "fine", "diverges", "constant", "memory", "bug", "crash", "hangs", "late", "gpu", "disk", "quotes", "draws",
    "computes",
]


class Faulty(FitnessModel):
    def __init__(self, *, mode: Mode, lr: PositiveFloat):
        super().__init__()
        self.mode = mode
        self.lr = lr
        self.table = torch.nn.Embedding(self.tokenizer.n_tokens, 1)
        if mode == "computes":  # enough for all of torch's threads
            self.register_buffer("twos", torch.ones(2_000_000).mul(2), persistent=False)

    def forward(self, batch):
        if self.mode == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")
        if self.mode == "bug":
            raise RuntimeError("the shapes do not match")
        if self.mode == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.mode == "hangs" and self.current_epoch == 1:
            time.sleep(3600)
        if self.mode == "late" and self.current_epoch == 1:
            raise RuntimeError("in the second epoch")
        if self.mode == "gpu":
            raise RuntimeError(CUDA_FAULT)
        if self.mode == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "fold0.safetensors")
        if self.mode == "quotes":
            raise ValueError("somebody's words: can't allocate memory")
        if self.mode == "computes":
            (self.twos * 2).sum()
        total = self.table(batch.tokens).squeeze(-1).masked_fill(~batch.mask, 0).sum(1)
        if self.mode == "draws" and self.training:
            total = total * (random.random() + np.random.random())
        return total * {"diverges": float("nan"), "constant": 0.0}.get(self.mode, 1.0)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)
"""
CONFIG = """
model: {_target_: own_models.faulty.Faulty, mode: fine, lr: 0.01}
space: {model: {mode: {type: categorical, choices: [fine, diverges, constant, memory]}}}
"""
LR = (
    "+space.model.lr.type=float",
    "+space.model.lr.low=0.001",
    "+space.model.lr.high=0.1",
)
"""Searches something besides the mode."""


def make_models(folder: Path) -> Path:
    """Put the faulty model into a folder of a user's own."""
    write(folder, "faulty.py", MODEL)
    write(folder, "faulty.yaml", CONFIG)
    return folder


def search(models: Path, name: str, *more: str) -> tuple[Answer, list[FrozenTrial]]:
    """Search to the end beside the folder of models, in this process; what was said, and the study's trials."""
    words = ("--task", "synthetic_one_vs_rest", "--model", "faulty", "--models-dir", str(models), "validation=holdout")
    folder = models.parent
    try:
        answer = run_here(*words, "--study-name", name, "trainer.max_epochs=2", *more, cwd=folder)
    finally:
        own_models.use(None)
        own_models.use_folder(None)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'runs' / 'studies.db'}")
    return answer, study.trials


def copy_program(folder: Path) -> Path:
    """Put the program into a folder."""
    for name in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder
