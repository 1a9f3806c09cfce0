"""Where the features of a call stand among the open segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.segment import Raw, Segment


class Located:
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
        segment = self._segments[at]
        values = segment.entry(int(self._number[entry]))
        if values is None:
            self._segment[self._segment == at] = -1
            self._drop(segment)
        return values
