"""Index from requested entries to (segment, row) in the feature cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.features.segment import Raw, Segment

_ROWS = 256  # copied and checked at a time: they stay in the processor's cache


class SegmentIndex:
    """Where n entries of a scope stand: in which of the open segments, if in any."""

    def __init__(self, n_entries: int, drop: Callable[[Segment], None]) -> None:
        self._segments: list[Segment] = []
        self._segment = np.full(n_entries, -1)
        self._number = np.zeros(n_entries, dtype=np.int64)
        self._drop = drop

    @property
    def missing(self) -> NDArray[np.int64]:
        """The entries that stand in no segment."""
        return np.flatnonzero(self._segment < 0)

    @property
    def paths(self) -> set[Path]:
        """The files of the open segments."""
        return {segment.path for segment in self._segments}

    def add(self, segment: Segment, entries: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Let entries stand at these places of a segment, except those that stand somewhere already."""
        new = self._segment[entries] < 0
        if new.any():
            self._segment[entries[new]] = len(self._segments)
            self._number[entries[new]] = numbers[new]
            self._segments.append(segment)

    def get(self, entry: int) -> Raw | None:
        """Return the values (L, D * itemsize) of an entry, or None; a segment found broken here is dropped."""
        at = int(self._segment[entry])
        if at < 0:
            return None
        values = self._segments[at].entry(int(self._number[entry]))
        if values is None:
            self._lose(at)
        return values

    def read_rows(self, entries: NDArray[np.int64], into: Raw) -> None:
        """Copy those of the entries (k,), each of one row, that stand somewhere into their rows of (n, D * itemsize).

        A segment found broken here is dropped, after which all of its entries are missing.
        """
        segment = self._segment[entries]
        for at in np.unique(segment[segment >= 0]).tolist():
            there = entries[segment == at]
            for first in range(0, len(there), _ROWS):
                some = there[first : first + _ROWS]
                rows = self._segments[at].rows(self._number[some])
                if rows is None:
                    self._lose(at)
                    break
                into[some] = rows

    def _lose(self, at: int) -> None:
        self._segment[self._segment == at] = -1
        self._drop(self._segments[at])
