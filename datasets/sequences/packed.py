"""N strings in one piece of memory: a Python object for each of a few hundred thousand sequences costs seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Packed(Sequence[str]):
    """N strings. `codes` are their bytes in UTF-8 one after the other, uint8; `lengths` (N,) int64 counts them."""

    def __init__(self, codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        self.codes = codes
        self.lengths = lengths
        self._ends = lengths.cumsum()

    @classmethod
    def of(cls, strings: Iterable[str]) -> Packed:
        """Pack strings."""
        encoded = [string.encode() for string in strings]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return cls(_codes(b"".join(encoded)), lengths)

    @classmethod
    def joined(cls, parts: Sequence[Packed]) -> Packed:
        """Return the strings of all parts, of which there is at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.codes for part in parts]), np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return a string, or a list of several."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        end = int(self._ends[row])
        return self.codes[end - int(self.lengths[row]) : end].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        """Yield the strings."""
        return map(bytes.decode, self.slices())

    def slices(self) -> list[bytes]:
        """Return the strings in UTF-8."""
        codes, ends = self.codes.tobytes(), self._ends.tolist()
        return [codes[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []

    def has_other_than(self, characters: bytes) -> bool:
        """Return whether there is any byte that is not one of the characters."""
        some = 1 << 20  # at a time: they stay in the processor's cache
        starts = range(0, len(self.codes), some)
        return any(self.codes[start : start + some].tobytes().translate(None, characters) for start in starts)

    def take(self, rows: NDArray[np.int64]) -> Packed:
        """Return the strings at some rows (n,)."""
        matrix = self.matrix
        if matrix is not None:
            return Packed(matrix[rows].reshape(-1), self.lengths[rows])
        codes, starts = self.codes.tobytes(), (self._ends - self.lengths)[rows].tolist()
        ends = self._ends[rows].tolist()
        joined = b"".join([codes[start:end] for start, end in zip(starts, ends, strict=True)])
        return Packed(_codes(joined), self.lengths[rows])

    @property
    def matrix(self) -> NDArray[np.uint8] | None:
        """The bytes as (N, L) where all strings have one length L, which is not 0."""
        if not len(self.lengths) or not self.lengths[0] or (self.lengths != self.lengths[0]).any():
            return None
        return self.codes.reshape(len(self.lengths), -1)


def _codes(joined: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(joined, dtype=np.uint8) if joined else np.zeros(0, dtype=np.uint8)
