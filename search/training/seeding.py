"""Seeding of the random numbers that whoever trains may draw from."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from datasets.common.seeds import derive_seed


def seed_libraries(*parts: int | str) -> None:
    """Let all random numbers that follow, of torch, NumPy and Python, depend on these parts alone (`derive_seed`).

    Our own models draw from torch only; a user's model may draw from any. `torch.manual_seed` notes where it was called
    from for each kind of accelerator that a machine lacks, which takes longer than a small model's solution, and keeps
    the notes.
    """
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the generator that all share is what a model may draw from
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the caller back the random numbers that it would have drawn next (on GPUs, it does not)."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
