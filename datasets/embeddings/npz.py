"""Embeddings in NumPy's .npz: an array of each sequence, or `keys` (N,) and `embeddings` (N, D)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.description import MAX_WIDTH
from datasets.embeddings.file import EmbeddingFile, short

_MAX_HEADER = 10_000
_MAX_KEYS_BYTES = 2**31
_MAX_PACKED_TABLE = 2**32
"""A table that is compressed is unpacked as a whole; one that is not is mapped."""
_TABLE = {"keys.npy", "embeddings.npy"}


class NpzFile(EmbeddingFile):
    """A zip file of .npy arrays without pickles, stored or deflated."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._zip = zipfile.ZipFile(path)
        infos = self._zip.infolist()
        names = [info.filename for info in infos]
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise self.refuse(f"the entry {short(twice)} stands twice")
        self._infos = dict(zip(names, infos, strict=True))
        self._table: NDArray[np.floating] | None = None
        if set(names) == _TABLE:
            self._open_table()
        else:
            self.keys = {name.removesuffix(".npy"): name for name in names}

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def about(self, key: Any) -> tuple[tuple[int, ...], int]:
        """As for other files."""
        if self._table is not None:
            return self._table.shape[1:], self._table.itemsize
        with self._zip.open(self._checked(key)) as stream:
            shape, _, dtype = self._header(stream, key)
        self.check_floats(dtype, shape, key)
        return shape, dtype.itemsize

    def read(self, key: Any) -> NDArray[np.floating]:
        """As for other files."""
        found: NDArray[np.floating] = self._array(key) if self._table is None else self._table[key]
        return found

    def _open_table(self) -> None:
        keys = self._array("keys.npy", most=_MAX_KEYS_BYTES)
        if keys.dtype.kind not in "US" or keys.ndim != 1:
            raise self.refuse(f"'keys' is of type {keys.dtype} and shape {keys.shape}", "expected texts (N,)")
        info = self._checked("embeddings.npy")
        with self._zip.open(info) as stream:
            shape, is_fortran, dtype = self._header(stream, info.filename)
            offset = stream.tell()
        if len(shape) != 2 or shape[0] != len(keys):
            raise self.refuse(
                f"'embeddings' has the shape {shape}, and there are {len(keys):,} 'keys'", "expected (N, D) and (N,)"
            )
        self.check_floats(dtype, shape[1:], "embeddings")
        if info.compress_type == zipfile.ZIP_STORED and not is_fortran:
            self._table = np.memmap(self.path, dtype, "r", self._start_of(info) + offset, shape)
        else:
            self._table = self._array(info.filename, most=_MAX_PACKED_TABLE)
        texts = [key.decode() if isinstance(key, bytes) else str(key) for key in keys.tolist()]
        self.keys = {text: row for row, text in enumerate(texts)}
        if len(self.keys) < len(texts):
            twice = next(text for row, text in enumerate(texts) if self.keys[text] != row)
            raise self.refuse(f"the key {short(twice)} stands twice")

    def _start_of(self, info: zipfile.ZipInfo) -> int:
        """Where the bytes of a stored member begin."""
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise self.refuse("it is damaged")
        start = (
            info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )
        if start + info.file_size > self.path.stat().st_size:
            raise self.refuse("it ends before its arrays do")
        return start

    def _checked(self, name: str) -> zipfile.ZipInfo:
        """A member that is packed as NumPy packs."""
        info = self._infos[name]
        if not name.endswith(".npy"):
            raise self.refuse(f"the entry {short(name)} is no array of NumPy's", "expected what numpy.savez writes")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise self.refuse(f"the entry {short(name)} is encrypted, or packed by another method than NumPy's")
        return info

    def _header(self, stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(stream, max_header_size=_MAX_HEADER)
        if dtype.hasobject:
            raise self.refuse(
                f"the entry {short(name)} holds Python objects, which could run code and are not read",
                "save arrays of numbers",
            )
        n_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        if stream.tell() + n_bytes != self._infos[name].file_size:
            raise self.refuse(f"the entry {short(name)} has another size than it says ({shape}, {dtype})")
        return shape, is_fortran, dtype

    def _array(self, name: str, most: int = 2**20 * MAX_WIDTH * 8) -> NDArray[Any]:
        """A whole array of at most so many bytes, which its header tells before anything is unpacked."""
        with self._zip.open(self._checked(name)) as stream:
            shape, is_fortran, dtype = self._header(stream, name)
            n_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
            if n_bytes > most:
                raise UserError(
                    f"{self.path}: the array {short(name)} takes {n_bytes / 1e9:.3g} GB unpacked, more than "
                    f"{most / 1e9:.3g}: save it without compression (numpy.savez)."
                )
            data = stream.read(n_bytes)
        if len(data) < n_bytes:
            raise self.refuse(f"the entry {short(name)} ends early")
        found: NDArray[Any] = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
        return found
