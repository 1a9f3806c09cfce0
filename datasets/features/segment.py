"""An immutable file of cached features: written once, memory-mapped, every entry checked before its first use.

A safetensors file of n entries, entry i being rows offsets[i] to offsets[i + 1] of `values`:

    offsets (n + 1,) int64, checks (n,) int64: CRC-32 of each entry's bytes, hashes (n, 32) uint8: SHA-256 of what
    each entry was computed from, values (sum of lengths, D) float32, float16 or bfloat16; metadata `checksum`: CRC-32
    of offsets, checks and hashes.

So opening a file reads its index, not its values, and yet nothing is ever used unchecked. It is written by hand
because safetensors' own writer wants all values in one piece of memory and hides the system's error number.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_HEADER_BYTES = 1024  # more than any header takes
_ROWS = 256  # copied and checked at a time: they stay in the processor's cache
_INDEX = ("offsets", "checks", "hashes")

Raw = NDArray[np.uint8]
"""Values as bytes, (L, D * itemsize)."""


class BrokenSegmentError(Exception):
    """A file that is not what was written; its text is the reason."""


def raw(values: Tensor) -> Raw:
    """Return values (..., D) on the CPU as bytes (..., D * itemsize), without a copy where they are contiguous."""
    viewed: Raw = values.contiguous().view(torch.uint8).numpy()
    return viewed


def file_bytes(n_entries: int, n_value_bytes: int) -> int:
    """Return at least the size of a file with so many entries and bytes of values, and at most 1 KiB more."""
    return _HEADER_BYTES + 8 + 48 * n_entries + n_value_bytes


def write_segment(
    path: Path,
    *,
    hashes: NDArray[np.uint8],
    lengths: Sequence[int],
    entries: Iterable[Raw],
    width: int,
    dtype: torch.dtype,
) -> None:
    """Write a file of n >= 1 entries (L_i, D * itemsize), of these lengths (n) and hashes (n, 32), one at a time.

    An OSError is let out.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
    index = {
        "offsets": offsets,
        "checks": np.zeros(len(lengths), dtype="<i8"),
        "hashes": np.ascontiguousarray(hashes, dtype=np.uint8),
    }
    n_rows = int(offsets[-1])
    shapes: dict[str, tuple[str, list[int], int]] = {
        name: ("U8" if name == "hashes" else "I64", list(array.shape), array.nbytes) for name, array in index.items()
    }
    shapes["values"] = (_DTYPES[dtype], [n_rows, width], n_rows * width * dtype.itemsize)
    with path.open("xb") as file:
        file.seek(_HEADER_BYTES + sum(array.nbytes for array in index.values()))
        for number, entry in enumerate(entries):
            data = np.ascontiguousarray(entry).data
            index["checks"][number] = zlib.crc32(data)
            file.write(data)
        header: dict[str, Any] = {"__metadata__": {"checksum": str(_checksum(index))}}
        end = 0
        for name, (kind, shape, size) in shapes.items():
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        file.seek(0)
        text = json.dumps(header).encode().ljust(_HEADER_BYTES - 8)
        assert len(text) == _HEADER_BYTES - 8, "a header is shorter than that"
        file.write(len(text).to_bytes(8, "little") + text)
        for array in index.values():
            file.write(array.data)


class Segment:
    """An open file. `hashes` is (n, 32) uint8; the values, of `dtype` and `width`, stay mapped when it is removed.

    Args:
        path: The file.
        dtype: What its values have to be; None is whatever they are. width: likewise.

    Raises:
        BrokenSegmentError: The file is damaged, or holds values of another type or width.
        OSError: The file is missing or not readable.
    """

    def __init__(self, path: Path, *, dtype: torch.dtype | None = None, width: int | None = None) -> None:
        self.path = path
        self.is_broken = False
        try:
            with safe_open(path, framework="pt") as file:
                checksum = file.metadata()["checksum"]
                tensors = {name: file.get_tensor(name) for name in (*_INDEX, "values")}
        except (SafetensorError, KeyError, TypeError) as error:
            raise BrokenSegmentError(str(error).strip() or type(error).__name__) from error
        index = {name: tensors[name].numpy() for name in _INDEX}
        values = tensors["values"]
        if checksum != str(_checksum(index)):
            raise BrokenSegmentError("the checksum of its index differs")
        if values.dim() != 2 or dtype not in (None, values.dtype) or width not in (None, values.shape[1]):
            raise BrokenSegmentError(f"it holds {values.dtype} of width {tuple(values.shape[1:])}")
        self.dtype, self.width = values.dtype, values.shape[1]
        self.hashes: NDArray[np.uint8] = index["hashes"]
        self._starts: NDArray[np.int64] = index["offsets"]
        self._offsets: list[int] = self._starts.tolist()  # read faster one by one
        self._checks: list[int] = index["checks"].tolist()
        self._is_checked = [False] * len(self._checks)
        self._values = raw(values)

    def entry(self, number: int) -> Raw | None:
        """Return an entry (L, D * itemsize), a view of the file; None if the segment is broken, there or before."""
        values = self._values[self._offsets[number] : self._offsets[number + 1]]
        if not self._is_checked[number] and not self.is_broken:
            self.is_broken = zlib.crc32(values.data) != self._checks[number]
            self._is_checked[number] = True
        return None if self.is_broken else values

    def rows(self, numbers: NDArray[np.int64]) -> Raw | None:
        """Return entries (n,) of one row each as (n, D * itemsize), or None; in one go much faster than `entry`."""
        rows = self._values[self._starts[numbers]]
        found = [zlib.crc32(row.data) for row in rows]
        self.is_broken = self.is_broken or found != [self._checks[number] for number in numbers.tolist()]
        return None if self.is_broken else rows


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


def _checksum(index: dict[str, NDArray[Any]]) -> int:
    checksum = 0
    for name in _INDEX:
        checksum = zlib.crc32(index[name].data, checksum)
    return checksum
