"""N strings in little memory: a Python object for each of a few hundred thousand sequences costs seconds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

_ROWS = 2048  # looked at at a time: they stay in the processor's cache
_BYTES = 1 << 20  # likewise


class Packed(Sequence[str]):
    """N strings; `lengths` (N,) int64 counts their bytes in UTF-8."""

    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, strings: Iterable[str]) -> Packed:
        """Pack strings."""
        encoded = [string.encode() for string in strings]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return packed(np.frombuffer(b"".join(encoded), dtype=np.uint8), lengths)

    @abstractmethod
    def codes(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return the bytes of all strings, or of some, one after the other."""

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> Packed:
        """Return the strings at some rows (n,)."""

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """Yield bytes, some at a time, among which is every one that occurs in any string."""

    def has_other_than(self, characters: bytes) -> bool:
        """Return whether there is any byte that is not one of the characters."""
        return any(piece.translate(None, characters) for piece in self.pieces())

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
        row = range(len(self))[row]
        return self.codes(row, row + 1).tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        """Yield the strings."""
        return map(bytes.decode, self.slices())

    def slices(self) -> Iterator[bytes]:
        """Yield the strings in UTF-8."""
        for start in range(0, len(self), _ROWS):
            joined, end = self.codes(start, start + _ROWS).tobytes(), 0
            for length in self.lengths[start : start + _ROWS].tolist():
                yield joined[end : end + length]
                end += length


class Ragged(Packed):
    """Strings of any lengths."""

    def __init__(self, codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        self._codes = codes
        self.lengths = lengths

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where in the codes each string begins, and where the last one ends (N + 1,)."""
        return np.concatenate((np.zeros(1, dtype=np.int64), self.lengths.cumsum()))

    def codes(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return the bytes of all strings, or of some, one after the other."""
        last = len(self) if stop is None else min(stop, len(self))
        return self._codes[self.ends[start] : self.ends[last]]

    def take(self, rows: NDArray[np.int64]) -> Packed:
        """Return the strings at some rows (n,)."""
        codes, starts, ends = self._codes.data, self.ends[rows].tolist(), self.ends[rows + 1].tolist()
        joined = b"".join([codes[start:end] for start, end in zip(starts, ends, strict=True)])
        return packed(np.frombuffer(joined, dtype=np.uint8), self.lengths[rows])

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""
        return (self._codes[i : i + _BYTES].tobytes() for i in range(0, len(self._codes), _BYTES))


class Aligned(Packed):
    """Strings of one length L, at least one: the `first` (L,) and, at the P positions that vary, `varying` (N, P)."""

    def __init__(self, first: NDArray[np.uint8], varies: NDArray[np.int64], varying: NDArray[np.uint8]) -> None:
        self.first, self.varies, self.varying = first, varies, varying
        self.lengths = np.full(len(varying), len(first), dtype=np.int64)

    def codes(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Return the bytes of all strings, or of some, one after the other."""
        varying = self.varying[start:stop]
        rows = np.tile(self.first, (len(varying), 1))
        rows[:, self.varies] = varying
        return rows.reshape(-1)

    def take(self, rows: NDArray[np.int64]) -> Packed:
        """Return the strings at some rows (n,)."""
        if not len(rows):
            return Packed.of(())
        varying = self.varying[rows]
        first = self.first.copy()
        first[self.varies] = varying[0]
        still = (varying != varying[0]).any(axis=0)
        return Aligned(first, self.varies[still], varying[:, still])

    def pieces(self) -> Iterator[bytes]:
        """Yield the first string, whose bytes all have where they do not vary, and those that vary."""
        yield self.first.tobytes()
        n = max(1, _BYTES // max(1, len(self.varies)))
        yield from (self.varying[i : i + n].tobytes() for i in range(0, len(self), n))


class Packing:
    """Packs strings that come part by part, of which it keeps no more than it needs."""

    def __init__(self) -> None:
        self._lengths = [np.zeros(0, dtype=np.int64)]
        self._first = np.zeros(0, dtype=np.uint8)
        self._varies = np.zeros(0, dtype=np.int64)
        self._varying: list[NDArray[np.uint8]] = []  # at the first so many positions
        self._at: list[NDArray[np.int64]] = []
        self._codes: bytearray | None = None  # once the lengths differ

    def add_array(self, strings: Any) -> None:
        """Append pyarrow's large_string without nulls, from its buffers."""
        _, offsets, values = strings.buffers()
        if not len(strings) or values is None:
            ends = np.zeros(len(strings) + 1, dtype=np.int64)
        else:
            ends = np.frombuffer(offsets, dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]
        self.add(np.frombuffer(values or b"", dtype=np.uint8)[ends[0] : ends[-1]], np.diff(ends))

    def add(self, codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        """Append strings: their bytes one after the other, and how many each has."""
        if not len(lengths):
            return
        if len(self._lengths) == 1:
            self._first = codes[: lengths[0]].copy()
        if self._codes is None and len(self._first) and (lengths == len(self._first)).all():
            rows = codes.reshape(len(lengths), -1)
            for start in range(0, len(rows), _ROWS):
                self._add_rows(rows[start : start + _ROWS])
        else:
            if self._codes is None:
                self._codes = bytearray(self._aligned().codes())
            self._codes += codes.data
        self._lengths.append(lengths)

    def packed(self) -> Packed:
        """Return all strings; nothing can be added any more."""
        if self._codes is None and len(self._lengths) > 1:
            return self._aligned()
        return Ragged(np.frombuffer(self._codes or b"", dtype=np.uint8), np.concatenate(self._lengths))

    def _add_rows(self, rows: NDArray[np.uint8]) -> None:
        n = len(rows) // 8 * 8  # eight as one: what a row costs is more than what its bytes do
        eights, others = rows[:n].reshape(-1, 8 * len(self._first)), (rows[n:], self._first[None])
        all_bits, any_bits = (
            reduce(np.concatenate((reduce(eights, axis=0).reshape(8, -1), *others)), axis=0)
            for reduce in (np.bitwise_and.reduce, np.bitwise_or.reduce)
        )
        differs = all_bits != any_bits
        differs[self._varies] = True
        at = self._varies = np.flatnonzero(differs)
        is_run = len(at) > 0 and at[-1] - at[0] == len(at) - 1
        self._varying.append(rows[:, at[0] : at[-1] + 1].copy() if is_run else rows[:, at])
        self._at.append(at)

    def _aligned(self) -> Aligned:
        n, start = sum(map(len, self._varying)), 0
        varying = np.empty((n, len(self._varies)), dtype=np.uint8)
        for at, some in zip(self._at, self._varying, strict=True):
            rows = varying[start : start + len(some)]
            if len(at) == len(self._varies):
                rows[:] = some
            else:  # others vary since
                rows[:] = self._first[self._varies]
                rows[:, np.searchsorted(self._varies, at)] = some
            start += len(some)
        return Aligned(self._first, self._varies, varying)


def packed(codes: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Packed:
    """Return the strings whose bytes stand one after the other, of the given lengths (N,)."""
    packing = Packing()
    packing.add(codes, lengths)
    return packing.packed()
