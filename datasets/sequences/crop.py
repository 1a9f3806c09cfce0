"""Windows and sites of a sequence, as functions of its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray


class Region(Protocol):
    """Some positions of every sequence."""

    def mask(self, lengths: NDArray[int64], n_columns: int) -> NDArray[bool_]:
        """Return (N, n_columns), True at the region's positions of N sequences of `lengths` (N,)."""

    def extent(self, lengths: NDArray[int64]) -> tuple[NDArray[int64], NDArray[int64]]:
        """Return the region's first position (N,) and the one after its last (N,), equal where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """A contiguous window with the meaning of a Python slice.

    Positions are 0-based; a negative `start` or `stop` counts from the end, so that a window with a negative
    `stop` grows with insertions before it, and None is the end of the sequence.
    """

    start: int = 0
    stop: int | None = None

    def window(self, lengths: NDArray[int64]) -> tuple[NDArray[int64], NDArray[int64]]:
        """Return the first position (N,) and the one after the last (N,) for sequences of `lengths` (N,)."""
        starts = self._place(self.start, lengths)
        stops = lengths if self.stop is None else self._place(self.stop, lengths)
        return starts, stops.clip(min=starts)

    def mask(self, lengths: NDArray[int64], n_columns: int) -> NDArray[bool_]:
        """Return (N, n_columns), True inside the window."""
        import numpy as np

        starts, stops = self.window(lengths)
        columns = np.arange(n_columns)
        return (columns >= starts[:, None]) & (columns < stops[:, None])

    def extent(self, lengths: NDArray[int64]) -> tuple[NDArray[int64], NDArray[int64]]:
        """Return the window."""
        return self.window(lengths)

    @staticmethod
    def _place(position: int, lengths: NDArray[int64]) -> NDArray[int64]:
        from_start = lengths * 0 + position if position >= 0 else lengths + position
        return from_start.clip(min=0, max=lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sites:
    """Single positions (0-based) that are the same in every sequence."""

    positions: tuple[int, ...]

    def mask(self, lengths: NDArray[int64], n_columns: int) -> NDArray[bool_]:
        """Return (N, n_columns), True at the sites that the sequence is long enough to have."""
        import numpy as np

        chosen = np.zeros(n_columns, dtype=np.bool_)
        chosen[[position for position in self.positions if position < n_columns]] = True
        return chosen & (np.arange(n_columns) < lengths[:, None])

    def extent(self, lengths: NDArray[int64]) -> tuple[NDArray[int64], NDArray[int64]]:
        """Return the first site (N,) and the position after the last one (N,) that the sequence is long enough for."""
        import numpy as np

        sites = np.array(sorted(self.positions), dtype=np.int64)
        n_sites = np.searchsorted(sites, lengths)
        return (
            np.where(n_sites > 0, sites[0], 0),
            np.where(n_sites > 0, sites[n_sites - 1] + 1, 0),
        )
