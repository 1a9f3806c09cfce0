"""A file of embeddings of any format that is known: opened, looked up, and read entry by entry.

Such files come from others, and are read with suspicion: nothing is unpickled, what a file leads to outside of itself
is refused, and the size of an entry is known, and bounded, before a byte of it is unpacked.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.description import MAX_WIDTH, EmbeddingKind

FORMATS = ".h5, .npz, .safetensors or .parquet"
MAX_RESIDUES = 2**20  # of a sequence; the longest protein known has 38,000
_FAULTS = (
    OSError,
    ValueError,  # of NumPy, h5py and Arrow
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,  # of h5py, and an encrypted member of a zip file
    NotImplementedError,
    MemoryError,
    OverflowError,
    EOFError,
    RecursionError,
    SyntaxError,  # of the header of an array
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class EmbeddingFile(ABC):
    """An open file. Of each key it has a vector (D,), or one of each residue (L, D); what raises, raises a UserError.

    Attributes:
        path: The file.
        keys: What leads to an entry, by the name that it has in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: Mapping[str, Hashable] = {}

    def other_keys(self) -> Mapping[str, Hashable]:
        """What leads to an entry by a second name, where the format has one. Looked at where the first ones miss."""
        return {}

    @abstractmethod
    def about(self, key: Any) -> tuple[tuple[int, ...], int]:
        """Return the shape of an entry of floating-point numbers, and the bytes of each, before it is read."""

    @abstractmethod
    def read(self, key: Any) -> NDArray[np.floating]:
        """Return the entry."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def refuse(self, what: str, remedy: str = "write it again") -> UserError:
        """The error for what is wrong with the file."""
        return UserError(f"{self.path}: {what}; {remedy}.")

    @property
    def kind_and_width(self) -> tuple[EmbeddingKind, int]:
        """Those of the first entry; the others have to have the same."""
        shape, _ = self.about(next(iter(self.keys.values())))
        return "sequence" if len(shape) == 1 else "residue", shape[-1]

    def check_floats(self, dtype: Any, shape: tuple[int, ...], name: str) -> None:
        """Refuse an entry that is no vector, or no matrix, of floating-point numbers."""
        kind, size = getattr(dtype, "kind", "?"), getattr(dtype, "itemsize", 0)
        if kind != "f" or size not in (2, 4, 8):
            raise self.refuse(
                f"the entry {short(name)} is of type {dtype}", "expected floating-point numbers of 16, 32 or 64 bits"
            )
        is_empty = 0 in shape
        if (
            len(shape) not in (1, 2)
            or is_empty
            or shape[-1] > MAX_WIDTH
            or (len(shape) == 2 and shape[0] > MAX_RESIDUES)
        ):
            raise self.refuse(
                f"the entry {short(name)} has the shape {shape}",
                f"expected (D,) for a sequence or (L, D) for its residues, D up to {MAX_WIDTH:,}",
            )


def short(name: str) -> str:
    """A key as a sentence shows it."""
    return repr(name if len(name) <= 40 else f"{name[:37]}...")


@contextlib.contextmanager
def opened_embeddings(path: Path) -> Iterator[EmbeddingFile]:
    """Open a file of embeddings; its content decides the format. All that goes wrong inside is a UserError.

    Raises:
        UserError: There is no such file, it is of another format, damaged, or holds something else.
    """
    start = _start(path)
    with reading(path):
        file = _open(path, start)
        try:
            if not file.keys:
                raise file.refuse("it has no entries", "expected an embedding of each sequence")
            yield file
        finally:
            file.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise of a file that they cannot read into a UserError."""
    try:
        yield
    except UserError:
        raise
    except _FAULTS as error:
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as a file of embeddings ({reason}): write it again.") from error


def _start(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"The embeddings {path} are a folder, a pipe or a device and no file: name a file.")
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The embeddings {path} cannot be read ({reason}): name the file where it is now.") from None
    if not start:
        raise UserError(f"The embeddings {path} are an empty file: expected {FORMATS}.")
    return start


def _open(path: Path, start: bytes) -> EmbeddingFile:
    if start.startswith(b"PK\x03\x04"):
        from datasets.embeddings.npz import NpzFile

        return NpzFile(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        from datasets.embeddings.hdf5 import Hdf5File

        return Hdf5File(path)
    if start.startswith(b"PAR1"):
        from datasets.embeddings.parquet import ParquetFile

        return ParquetFile(path)
    if start[8:9] == b"{":
        from datasets.embeddings.tensors import TensorFile

        return TensorFile(path)
    raise UserError(f"{path} is no file of embeddings: expected {FORMATS} (see docs/embeddings.md).")
