"""N strings in one piece of memory: a Python object for each of a few hundred thousand sequences costs seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

_ROWS = 512  # looked at at a time: they stay in the processor's cache
_FEW = 0.25  # of the positions: it pays to look at these alone


class Packed(Sequence[str]):
    """N strings. `codes` are their bytes in UTF-8 one after the other, uint8; `lengths` (N,) int64 counts them."""

    def __init__(self, codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        self.codes = codes
        self.lengths = lengths
        self._ends = lengths.cumsum()
        self._varying: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, strings: Iterable[str]) -> Packed:
        """Pack strings."""
        encoded = [string.encode() for string in strings]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return cls(_codes(b"".join(encoded)), lengths)

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
        codes, matrix = self.codes, self.matrix
        if matrix is not None and self._few_vary:
            # What stands at the other positions of the first row stands there in all.
            if matrix[0].tobytes().translate(None, characters):
                return True
            codes = self.varying_codes().reshape(-1)
        some = 1 << 20  # at a time: they stay in the processor's cache
        starts = range(0, len(codes), some)
        return any(codes[start : start + some].tobytes().translate(None, characters) for start in starts)

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

    @cached_property
    def varies(self) -> NDArray[np.int64] | None:
        """The positions (0-based) at which strings of one length differ, None where they have several lengths."""
        codes = self.matrix
        if codes is None:
            return None
        varies = np.zeros(codes.shape[1], dtype=np.bool_)
        for first in range(0, len(codes), _ROWS):
            some = codes[first : first + _ROWS]
            varies |= (some.min(axis=0) != codes[0]) | (some.max(axis=0) != codes[0])
        return np.flatnonzero(varies)

    def varying_codes(self) -> NDArray[np.uint8]:
        """Return the bytes (N, P) at the P positions that vary, of strings of one length; kept where they are few."""
        if self._varying is None:
            matrix, varies = self.matrix, self.varies
            assert matrix is not None
            codes = np.concatenate([matrix[i : i + _ROWS][:, varies] for i in range(0, len(matrix), _ROWS)])
            self._varying = codes if self._few_vary else None
            return codes
        return self._varying

    @property
    def _few_vary(self) -> bool:
        return self.varies is not None and len(self.varies) <= _FEW * int(self.lengths[0])


class Packing:
    """Packs strings that come part by part. `n_bytes` is about how many there will be."""

    def __init__(self, n_bytes: int = 0) -> None:
        self._codes = np.empty(n_bytes, dtype=np.uint8)  # what is not filled takes no memory
        self._n_bytes = 0
        self._lengths: list[NDArray[np.int64]] = []

    def add(self, part: Packed) -> None:
        """Append the strings of a part."""
        start, end = self._n_bytes, self._n_bytes + len(part.codes)
        if end > len(self._codes):
            grown = np.empty(2 * end, dtype=np.uint8)
            grown[:start] = self._codes[:start]
            self._codes = grown
        self._codes[start:end] = part.codes
        self._n_bytes = end
        self._lengths.append(part.lengths)

    def packed(self) -> Packed:
        """Return all strings; nothing can be added any more."""
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *self._lengths])
        return Packed(self._codes[: self._n_bytes], lengths)


def _codes(joined: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(joined, dtype=np.uint8) if joined else np.zeros(0, dtype=np.uint8)
