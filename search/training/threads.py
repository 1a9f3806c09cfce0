"""How many CPU threads a run takes that names none: its bits depend on it, so the config and the data decide alone.

No machine is asked, and nothing is timed: the same study has the same bits on 2 cores and on 64.
"""

import torch

from datasets.splits.prepared import PreparedSplit
from models.fitness_model import FitnessModel
from search.config.run_config import RunConfig
from search.training.build import build_data, build_model, folds_of

MOST_THREADS = 8
"""More gain little in one run, and bind a study to large machines: a machine with fewer cores takes turns on them."""
_SMALL = 4 * 10**9
"""Multiply-adds below which several workers of one thread each do more than one of several: CNNs of up to 350 channels
at batches of 256 and 56 residues. See docs/measurements.md, "Threads".
"""
_DOUBLES = 8
"""Twice the threads for so many times the arithmetic: what cannot be divided grows with it, too."""


def usual_threads(arithmetic: int) -> int:
    """The threads for so many multiply-adds at once (`models.hooks.ModelHooks.arithmetic`): 1, 2, 4 or 8."""
    threads, least = 1, _SMALL
    while threads < MOST_THREADS and arithmetic >= least:
        threads, least = 2 * threads, least * _DOUBLES
    return threads


def threads_of_model(model: FitnessModel, n_rows: int, lengths: torch.Tensor, batch_size: int) -> int:
    """The threads for a model that was built for rows of these lengths (N,) in tokens, `n_rows` of them in training."""
    return usual_threads(model.arithmetic(n_rows, int(lengths.max()), batch_size))


def threads_of_run(config: RunConfig, split: PreparedSplit) -> int:
    """The threads of a run by itself; a study hands its runs those of its largest configuration."""
    if config.trainer.threads is not None:
        return config.trainer.threads
    largest = max(folds_of(config, split), key=lambda fold: len(fold.train))
    model = build_model(config)
    data = build_data(config, split, model, largest, 0)
    return threads_of_model(model, len(largest.train), data.lengths, config.data.batch_size)
