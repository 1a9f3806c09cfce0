"""Features of all tokens, gathered from memory-mapped files, and computed where none holds them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.features.addresses import Sequences
from datasets.features.encoder import Encoder
from datasets.features.passes import encode, passes
from datasets.features.segment import SegmentIndex, raw

_RESIDENT_ENTRIES = 256  # moved at a time


class TokenFeatures:
    """Features (L, D) of N rows, cls and eos included; what stands in no segment is computed when it is gathered."""

    values = None

    def __init__(self, encoder: Encoder, sequences: Sequences, located: SegmentIndex, *, n_computed: int) -> None:
        self.n_computed = n_computed
        self._encoder, self._sequences, self._located = encoder, sequences, located

    @property
    def n_bytes(self) -> int:
        """The memory that all distinct sequences take."""
        lengths = self._sequences.lengths[self._sequences.distinct.example]
        return int(lengths.sum()) * self._encoder.width * self._encoder.dtype.itemsize

    def gather(self, rows: Tensor) -> Tensor:
        """From rows (b,) int64 to (b, longest, D) on the CPU, zeros at padding."""
        return self._gather(self._sequences.distinct.entry[rows.cpu().numpy()])

    def to(self, device: torch.device | str) -> ResidentTokenFeatures:
        """Return the features in the memory of a device, what is missing computed once; see `n_bytes` first."""
        distinct = self._sequences.distinct
        lengths = torch.from_numpy(self._sequences.lengths[distinct.example])
        values = torch.empty((int(lengths.sum()), self._encoder.width), dtype=self._encoder.dtype, device=device)
        end = 0
        for first in range(0, len(distinct), _RESIDENT_ENTRIES):
            numbers = np.arange(first, min(first + _RESIDENT_ENTRIES, len(distinct)))
            gathered = self._gather(numbers)
            new = gathered[torch.arange(gathered.shape[1]) < lengths[numbers, None]]
            values[end : end + len(new)] = new.to(device)
            end += len(new)
        entry = torch.from_numpy(distinct.entry)
        starts = lengths.cumsum(0) - lengths
        return ResidentTokenFeatures(values, starts[entry], lengths[entry], n_computed=self.n_computed)

    def _gather(self, numbers: NDArray[np.int64]) -> Tensor:
        lengths = self._sequences.lengths[self._sequences.distinct.example[numbers]]
        gathered, missing = padded(self._located, numbers, int(lengths.max(initial=0)), self._encoder)
        if missing:
            places: dict[int, list[int]] = {}
            for i in missing:
                places.setdefault(int(numbers[i]), []).append(i)
            for batch, states in encoded(self._encoder, self._sequences, np.array(list(places))):
                states = states.cpu()
                for number, state in zip(batch.tolist(), states, strict=True):
                    length = lengths[places[number][0]]
                    gathered[places[number], :length] = state[:length]
                self.n_computed += len(batch)
        return gathered


class ResidentTokenFeatures:
    """Features (L, D) of N rows, one after another in the memory of a device."""

    def __init__(self, flat: Tensor, starts: Tensor, lengths: Tensor, *, n_computed: int) -> None:
        """Take flat (sum of L, D) on the device; starts and lengths (N,) int64 on the CPU."""
        self.values = None
        self.n_computed = n_computed
        self._flat, self._starts, self._lengths = flat, starts, lengths

    @property
    def n_bytes(self) -> int:
        """The size of the values."""
        return self._flat.nbytes

    def to(self, device: torch.device | str) -> ResidentTokenFeatures:
        """Return the features on another device."""
        return ResidentTokenFeatures(self._flat.to(device), self._starts, self._lengths, n_computed=self.n_computed)

    def gather(self, rows: Tensor) -> Tensor:
        """From rows (b,) int64 to (b, longest, D) on the device, zeros at padding."""
        rows = rows.cpu()  # where lengths are known without waiting for the device
        lengths = self._lengths[rows]
        position = torch.arange(int(lengths.max()) if len(rows) else 0)
        index = self._starts[rows, None] + torch.minimum(position, lengths[:, None] - 1)
        is_padding = (position >= lengths[:, None]).to(self._flat.device)
        gathered = self._flat.index_select(0, index.flatten().to(self._flat.device))
        return gathered.view(*index.shape, self._flat.shape[1]).masked_fill_(is_padding[..., None], 0)


def encoded(
    encoder: Encoder, sequences: Sequences, numbers: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield distinct sequences (n,) in batches (k,), with the states (k, T, D) that the encoder gives them."""
    rows = sequences.distinct.example[numbers]
    for n_columns, picks in passes(sequences.lengths[rows]):
        yield numbers[picks], encode(encoder, sequences.tokens, rows[picks], n_columns)


def read_back(
    located: SegmentIndex, encoder: Encoder, sequences: Sequences, numbers: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield the same as `encoded` from kept tokens; what turns out to be missing or broken is left out."""
    for n_columns, picks in passes(sequences.lengths[sequences.distinct.example[numbers]]):
        states, missing = padded(located, numbers[picks], n_columns, encoder)
        there = np.delete(np.arange(len(picks)), missing)
        if len(there):
            yield numbers[picks][there], states[torch.from_numpy(there)]


def padded(
    located: SegmentIndex, numbers: NDArray[np.int64], n_columns: int, encoder: Encoder
) -> tuple[Tensor, list[int]]:
    """Gather distinct sequences (b,) into (b, n_columns, D), zeros at padding, and say which are not there."""
    gathered = torch.empty((len(numbers), n_columns, encoder.width), dtype=encoder.dtype)
    into, missing = raw(gathered), []
    for i, number in enumerate(numbers.tolist()):
        values = located.get(number)
        if values is None:
            missing.append(i)
            into[i] = 0
        else:
            into[i, : len(values)] = values
            into[i, len(values) :] = 0
    return gathered, missing
