"""How many folds of a run train at once."""

import torch

from search.config.run_config import RunConfig
from search.config.targets import is_exact
from search.training.folds.forked import can_fork
from search.training.memory import USED_SHARE, free_memory_bytes
from search.training.predictor import default_device

_LEAST_BYTES = 2**29
"""What a fold takes of memory, whatever its model is: tensors of torch's own, copies of what it shares at first."""


def folds_at_once(config: RunConfig, n_folds: int, *, cores: int, threads: int) -> int:
    """How many of a run's folds train at once on so many cores, each on `threads` of them.

    One where it would cost more than it gains: models that are solved at once take less time than a process. One, too,
    on a GPU, which one fold fills; with callbacks, which may know of each other; and where processes can't be forked.
    """
    n = min(n_folds, cores // threads)
    if n < 2 or not can_fork() or is_exact(config.model) or config.trainer.callbacks:
        return 1
    return 1 if default_device(config).type != "cpu" else n


def that_fit(needed_bytes: int) -> int:
    """How many folds that need so much memory each (0: little) fit into what is free; one always counts as fitting."""
    free = USED_SHARE * free_memory_bytes(torch.device("cpu"))
    return max(1, int(free // max(_LEAST_BYTES, needed_bytes)))
