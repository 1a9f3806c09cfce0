"""The cores, divided among blocks of candidates that are predicted at once."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import torch

from search.experiments.trained import AnyPredictor
from search.machine.hardware import usable_cores

_MOST_BLOCKS = 4
"""Predicted at once: more would be held up by the one thread that reads, and take memory."""


class _Cores:
    """How many `n_users` divide the cores now, in threads of their own, and what `n_threads` torch had before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_users = self.n_threads = 0


_cores = _Cores()


@contextlib.contextmanager
def divided_cores(predictors: Sequence[AnyPredictor]) -> Iterator[int]:
    """Give torch its share of the cores meanwhile; yield how many blocks should be predicted at once.

    Most steps of a small model are too short to be divided: two blocks on two cores are done sooner than one after
    another on both. Of several models, which predict a block one after another, the largest decides.
    """
    n_blocks = min(_MOST_BLOCKS, usable_cores()) if all(one.is_light for one in predictors) else 1
    with _cores.lock:  # what another thread has divided already is not what the caller had
        _cores.n_users += 1
        if _cores.n_users == 1:
            _cores.n_threads = torch.get_num_threads()
    torch.set_num_threads(-(-usable_cores() // n_blocks))
    try:
        yield n_blocks
    finally:
        torch.set_num_threads(_cores.n_threads)
        with _cores.lock:
            _cores.n_users -= 1
