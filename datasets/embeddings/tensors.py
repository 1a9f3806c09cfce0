"""Embeddings in safetensors: a tensor of each sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.embeddings.file import EmbeddingFile, short

_MAX_HEADER = 10**8  # as safetensors itself has it
_TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}


class TensorFile(EmbeddingFile):
    """A safetensors file, which is mapped. NumPy has no bfloat16: such values become float32, all of which it knows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        n_bytes = path.stat().st_size
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            if not 2 <= n_header <= min(_MAX_HEADER, n_bytes - 8):
                raise self.refuse("it is no safetensors file, or it ends early")
            header = json.loads(file.read(n_header), object_pairs_hook=self._once)
        header.pop("__metadata__", None)
        self._entries = header
        self._data = np.memmap(path, np.uint8, "r", 8 + n_header) if n_bytes > 8 + n_header else np.zeros(0, np.uint8)
        self.keys = {name: name for name in header}

    def close(self) -> None:
        """Nothing: the file is unmapped with the last array."""

    def about(self, key: Any) -> tuple[tuple[int, ...], int]:
        """As for other files."""
        shape, dtype, _, _ = self._place(key)
        return shape, 4 if self._entries[key]["dtype"] == "BF16" else dtype.itemsize

    def read(self, key: Any) -> NDArray[np.floating]:
        """As for other files."""
        shape, dtype, start, end = self._place(key)
        values = np.frombuffer(self._data[start:end].tobytes(), dtype).reshape(shape)
        return (values.astype(np.uint32) << 16).view(np.float32) if dtype.kind == "u" else values

    def _once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise self.refuse(f"the entry {short(twice)} stands twice")
        return found

    def _place(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
        """Shape, type, and from where to where the bytes of a tensor stand."""
        entry = self._entries[key]
        shape, (start, end) = tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
        dtype = _TYPES.get(entry["dtype"])
        self.check_floats(np.dtype(np.float32) if entry["dtype"] == "BF16" else dtype or entry["dtype"], shape, key)
        assert dtype is not None
        n_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        if not 0 <= start <= end <= len(self._data) or end - start != n_bytes or min(shape) < 0:
            raise self.refuse(f"the entry {short(key)} has another size than it says, or the file ends early")
        return shape, dtype, start, end
