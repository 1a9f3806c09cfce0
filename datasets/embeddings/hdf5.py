"""Embeddings in HDF5 as biotrainer and bio-embeddings write them: a dataset of each sequence.

HDF5 can do much that embeddings do not need: links into other files, data that stand elsewhere, filters that are loaded
as plugins. All of it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.embeddings.file import EmbeddingFile, short

_MAX_CHUNK_BYTES = 2**26  # h5py makes them of at most 1 MiB
_MAX_RATIO = 1100  # deflate packs 1,032 equal bytes into one
_ORIGINAL_ID = "original_id"


class Hdf5File(EmbeddingFile):
    """Datasets in the root of an HDF5 file, plain or packed with gzip; their attribute original_id is a second name."""

    def __init__(self, path: Path) -> None:
        import h5py  # type: ignore[import-untyped]  # here because few files are of this format

        super().__init__(path)
        self._h5py = h5py
        self._file = h5py.File(path, "r", locking=False)
        self.keys = {name: name for name in self._file}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @cached_property
    def second_keys(self) -> Mapping[str, str | None]:
        """As for other files: by the names that the sequences had where they were embedded."""
        found: dict[str, str | None] = {}
        for name in self.keys:
            attributes = self._dataset(name).attrs
            if _ORIGINAL_ID not in attributes:
                continue
            about = attributes.get_id(_ORIGINAL_ID)
            if about.shape != () or about.get_storage_size() > 2**16:
                raise self.refuse(f"the original_id of {short(name)} is no text")
            original = attributes[_ORIGINAL_ID]
            original = original.decode(errors="replace") if isinstance(original, bytes) else str(original)
            if found.setdefault(original, name) != name:
                found[original] = None
        return found

    def about(self, key: Any) -> tuple[tuple[int, ...], int]:
        """As for other files."""
        dataset = self._dataset(key)
        self.check_floats(dataset.dtype, tuple(dataset.shape or ()), key)
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > _MAX_RATIO * stored:
            raise self.refuse(
                f"the entry {short(key)} says that it has {dataset.nbytes:,} bytes, and {stored:,} are stored of it"
            )
        chunks = dataset.chunks
        if chunks is not None and int(np.prod(chunks, dtype=object)) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
            raise self.refuse(f"the chunks of the entry {short(key)} are larger than {_MAX_CHUNK_BYTES >> 20} MiB")
        return tuple(dataset.shape), dataset.dtype.itemsize

    def read(self, key: Any) -> NDArray[np.floating]:
        """As for other files."""
        found: NDArray[np.floating] = self._dataset(key)[()]
        return found

    def _dataset(self, name: str) -> Any:
        """A dataset whose values stand in this file, packed by what the library itself has."""
        h5py = self._h5py
        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            raise self.refuse(f"the entry {short(name)} is a link to elsewhere, which is not followed", "copy it here")
        if self._file.get(name, getclass=True) is not h5py.Dataset:
            raise self.refuse(
                f"the entry {short(name)} is no dataset", "expected one of each sequence, as biotrainer writes it"
            )
        dataset = self._file[name]
        if dataset.is_virtual or dataset.external:
            raise self.refuse(f"the values of the entry {short(name)} stand in other files, which are not read")
        plist = dataset.id.get_create_plist()
        allowed = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
        for number in range(plist.get_nfilters()):
            if plist.get_filter(number)[0] not in allowed:
                raise self.refuse(
                    f"the entry {short(name)} is packed by a filter that is not read ({plist.get_filter(number)[0]})",
                    "write it with compression='gzip'",
                )
        return dataset
