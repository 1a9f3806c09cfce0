"""From the states of whole sequences to the features of several scopes, written into the cache as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.features.addresses import Sequences
from datasets.features.cache import FeatureCache
from datasets.features.encoder import Encoder, Scope
from datasets.features.passes import pooled
from datasets.features.segment import Raw, Segment, SegmentIndex, raw
from datasets.task import Announce

SEGMENT_BYTES = 2**27
SEGMENT_S = 60.0  # of computing are lost at most when a process is killed

States = Iterable[tuple[NDArray[np.int64], Tensor]]
"""Distinct sequences (k,) with their states (k, T, D), batch by batch."""


class Writer:
    """The cache as one call for `scope` writes to it; `is_stopped` once it refused that scope or cannot be written."""

    def __init__(self, cache: FeatureCache, encoder: Encoder, scope: Scope, announce: Announce) -> None:
        self.is_stopped = False
        self._cache, self._encoder, self._scope, self._announce = cache, encoder, scope, announce
        self._needed: list[SegmentIndex] = []

    def protect(self, located: SegmentIndex) -> SegmentIndex:
        """Let no segment of these be removed to make room; return them."""
        self._needed.append(located)
        return located

    def save(self, scope: Scope, hashes: NDArray[np.uint8], entries: Sequence[Raw]) -> Segment | None:
        """Write a segment of entries (L_i, D * itemsize) and return it, or None where it could not be kept."""
        if self.is_stopped:
            return None
        keep = {path for located in self._needed for path in located.paths}
        try:
            segment = self._cache.add(self._encoder, scope, hashes, entries, keep)
        except OSError as error:
            self.stop(error)
            return None
        if segment is None and scope == self._scope:
            self.is_stopped = True
            self._announce(
                f"The feature cache has no room left within {gigabytes(self._cache.max_bytes)} (cache.max_gb): "
                "the other features are computed without it."
            )
        return segment

    def stop(self, error: OSError) -> None:
        """Write nothing more, because of an error of the system."""
        self.is_stopped = True
        self._announce(
            f"The feature cache {self._cache.directory} cannot be written ({error.strerror or error}): "
            "features are computed without it."
        )


def gigabytes(n_bytes: float) -> str:
    """Return a size as a user reads it."""
    return f"{n_bytes / 1e9:.3g} GB"


class Sink:
    """Collects those entries of one scope that are wanted.

    values: (n, D) of all the scope's entries, filled where it is given. located: told of new segments.
    """

    def __init__(
        self,
        sequences: Sequences,
        scope: Scope,
        wanted: NDArray[np.int64],
        writer: Writer,
        *,
        values: Tensor | None = None,
        located: SegmentIndex | None = None,
    ) -> None:
        self.n_bytes = 0  # waiting to be written
        self._sequences, self._scope, self._writer = sequences, scope, writer
        self._values, self._located = values, located
        self._addresses = sequences.addresses(scope)
        self._wanted: dict[int, list[int]] = {}  # sequence -> entries, several where the regions differ
        sequence = sequences.distinct.entry[self._addresses.example[wanted]]
        for number, entry in zip(sequence.tolist(), wanted.tolist(), strict=True):
            self._wanted.setdefault(number, []).append(entry)
        self._entries: list[int] = []
        self._pooled: list[Tensor] = []  # on their device until they are written, so that no batch waits for another
        self._raw: list[Raw] = []

    @property
    def wanted(self) -> NDArray[np.int64]:
        """The distinct sequences that are still to come."""
        return np.array(sorted(self._wanted), dtype=np.int64)

    def take(self, numbers: NDArray[np.int64], states: Tensor) -> None:
        """Take what is wanted from the states (k, T, D) of k distinct sequences."""
        pairs = [(i, entry) for i, number in enumerate(numbers.tolist()) for entry in self._wanted.pop(number, ())]
        if not pairs:
            return
        picks, entries = [i for i, _ in pairs], [entry for _, entry in pairs]
        rows = self._addresses.example[entries]
        if self._scope == "tokens":
            new = raw(states.cpu())
            self._raw += [
                new[i, :length] for i, length in zip(picks, self._sequences.lengths[rows].tolist(), strict=True)
            ]
            self.n_bytes += new.nbytes
        else:
            picked = states if picks == list(range(len(states))) else states[picks]
            self._pooled.append(pooled(picked, self._sequences.positions(self._scope, rows, states.shape[1])))
            self.n_bytes += self._pooled[-1].nbytes
        self._entries += entries

    def flush(self) -> None:
        """Write what was taken since the last time."""
        if not self._entries:
            return
        entries = np.array(self._entries)
        if self._pooled:
            new = torch.cat(self._pooled).cpu()
            if self._values is not None:
                self._values[torch.from_numpy(entries)] = new
            self._raw = list(raw(new)[:, None])
        segment = self._writer.save(self._scope, self._addresses.hashes[entries], self._raw)
        if segment is not None and self._located is not None:
            self._located.add(segment, entries, np.arange(len(entries)))
        self._entries, self._pooled, self._raw, self.n_bytes = [], [], [], 0


def fill(sinks: Sequence[Sink], states: States, on_batch: Callable[[int], None]) -> None:
    """Pour states into sinks, which write now and then and at the end; `on_batch` takes the sequences of each batch."""
    last = time.monotonic()
    for numbers, batch in states:
        is_due = time.monotonic() - last > SEGMENT_S
        for sink in sinks:
            sink.take(numbers, batch)
            if is_due or sink.n_bytes >= SEGMENT_BYTES:
                sink.flush()
        last = time.monotonic() if is_due else last
        on_batch(len(numbers))
    for sink in sinks:
        sink.flush()
