"""Pass sequences through an encoder so that each one's bits depend on nothing but itself.

Matrix products of another shape may sum in another order. So the shape of a batch follows from the length of its
sequences alone, and what is left of a batch is filled up with rows that are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.features.encoder import Encoder

TOKENS_PER_PASS = 4096  # half as many cost ESM-2 8M up to 1.7 times the time a token on two cores
_MULTIPLE = 8


def passes(lengths: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Cut sequences of these lengths (n,) into batches: their padded length T and which sequences (k,) they hold.

    The longest come first: what does not fit into memory fails at once.
    """
    # Always some padding: attention without a mask takes another path on a GPU, with other bits.
    padded = (lengths // _MULTIPLE + 1) * _MULTIPLE
    order = np.argsort(-padded, kind="stable")
    for n_columns in np.unique(padded)[::-1].tolist():
        of_length = order[padded[order] == n_columns]
        for first in range(0, len(of_length), _n_rows(n_columns)):
            yield n_columns, of_length[first : first + _n_rows(n_columns)]


def encode(encoder: Encoder, tokens: Tensor, rows: NDArray[np.int64], n_columns: int) -> Tensor:
    """Return the states (k, n_columns, D) of k rows of tokens (N, T), as kept: in `encoder.dtype`, on its device.

    Columns of other rows' tokens beyond n_columns are cut, so all rows have to be of one batch of `passes`.
    """
    filled = torch.from_numpy(np.resize(rows, _n_rows(n_columns)))
    batch = torch.zeros((len(filled), n_columns), dtype=torch.int64)
    n_known = min(n_columns, tokens.shape[1])
    batch[:, :n_known] = tokens[filled, :n_known]
    with torch.no_grad():
        states = encoder(batch)
    expected = (*batch.shape, encoder.width)
    if states.shape != expected:
        raise ValueError(f"the encoder returned {tuple(states.shape)}, expected {expected}")
    return states[: len(rows)].to(encoder.dtype)


def pooled(states: Tensor, positions: Tensor) -> Tensor:
    """Average states (n, T, D) over positions (n, T) bool in float32, and return (n, D) in the type of the states.

    The sum is a tree of additions of halves: unlike `sum`, it gives the same bits on every device, with any
    number of threads, and from states that were kept.
    """
    positions = positions.to(states.device)
    sums = torch.where(positions[..., None], states.float(), 0.0)
    n_left = sums.shape[1]
    while n_left > 1:
        half = (n_left + 1) // 2
        sums[:, : n_left - half] += sums[:, half:n_left]
        n_left = half
    return (sums[:, 0] / positions.sum(1, keepdim=True).float()).to(states.dtype)


def _n_rows(n_columns: int) -> int:
    return max(1, TOKENS_PER_PASS // n_columns)
