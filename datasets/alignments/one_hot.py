"""Sequences of an alignment as a sparse matrix of zeros and ones, and what is counted with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

OnProgress = Callable[[str, int, int], None]
"""Is told what is computed, how many parts of it are done, and how many there are."""
IDENTITY = 0.8
_BLOCK = 64  # sequences compared at a time with all others
_T = TypeVar("_T")


class SparseOneHot:
    """X (N, C * A), made of codes (N, C): column c * A + a is 1 where letter a < A stands at c; other codes give zeros.

    A row has C ones among C * A values, so its products are sums of rows of the other matrix: with 20 letters a
    twentieth of the work of a dense product.
    """

    def __init__(self, codes: NDArray[np.uint8], n_letters: int) -> None:
        n_rows, n_columns = codes.shape
        rows, columns = (codes < n_letters).nonzero()
        ones = columns * n_letters + codes[rows, columns]
        order = np.argsort(ones, kind="stable")
        self._of_rows = _bags(ones, np.bincount(rows, minlength=n_rows))
        self._of_columns = _bags(rows[order], np.bincount(ones, minlength=n_columns * n_letters))

    def times(self, values: Tensor) -> Tensor:
        """Return X @ values, (C * A, k) to (N, k)."""
        return _sums(values, self._of_rows)

    def transposed_times(self, values: Tensor) -> Tensor:
        """Return X^T @ values, (N, k) to (C * A, k)."""
        return _sums(values, self._of_columns)


def _bags(items: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    starts = np.cumsum(sizes) - sizes
    return torch.from_numpy(items.astype(np.int32)), torch.from_numpy(starts.astype(np.int32))


def _sums(values: Tensor, bags: tuple[Tensor, Tensor]) -> Tensor:
    items, starts = bags
    return embedding_bag(items, values, starts, mode="sum")


@contextmanager
def one_thread_each(threads: int) -> Iterator[Callable[[Callable[[int], _T], Iterable[int]], Iterator[_T]]]:
    """Yield a `map` over numbers whose calls run on so many threads, in each of which torch takes one core.

    So the bits of a result do not depend on how many threads there are.
    """
    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def sequence_weights(
    codes: NDArray[np.uint8], n_letters: int, threads: int, on_progress: OnProgress
) -> NDArray[np.float64]:
    """Return (N,) weights: one divided by the number of sequences, itself included, that agree in 80 % of the columns.

    codes: (N, C), each below `n_letters`; gaps are a letter, as in plmc (Hopf et al. 2017, doi:10.1038/nbt.3769).
    """
    one_hot = SparseOneHot(codes, n_letters)
    n, n_columns = codes.shape
    least = int(np.ceil(IDENTITY * n_columns - 1e-9))
    blocks = range(0, n, _BLOCK)

    def n_alike(first: int) -> NDArray[np.int64]:
        block = torch.from_numpy(codes[first : first + _BLOCK]).long()
        dense = torch.nn.functional.one_hot(block, n_letters).reshape(len(block), -1).T.float().contiguous()
        found: NDArray[np.int64] = (one_hot.times(dense) >= least).sum(0).numpy()
        return found

    counts = []
    with one_thread_each(threads) as mapped:
        for n_done, found in enumerate(mapped(n_alike, blocks), 1):
            counts.append(found)
            on_progress("weights", n_done, len(blocks))
    return 1.0 / np.concatenate(counts)


def weighted_counts(codes: NDArray[np.uint8], weights: NDArray[np.float64], n_letters: int) -> NDArray[np.float64]:
    """Return (C, A): the weight of the sequences with each letter; codes (N, C) of A or more count nowhere."""
    counts = SparseOneHot(codes, n_letters).transposed_times(torch.from_numpy(weights)[:, None])
    counted: NDArray[np.float64] = counts.numpy().reshape(codes.shape[1], n_letters)
    return counted
