"""What a file of embeddings is, whatever its format: looked up, and read entry by entry.

Such files come from others, and are read with suspicion: nothing is unpickled, what a file leads to outside of itself
is refused, and the size of an entry is known, and bounded, before a byte of it is unpacked.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.description import MAX_WIDTH, EmbeddingKind

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

    @cached_property
    def second_keys(self) -> Mapping[str, Hashable | None]:
        """What leads to an entry by a second name, where the format has one; None where it is that of several."""
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
        with reading(self.path):
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
def reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise of a file that they cannot read into a UserError."""
    try:
        yield
    except UserError:
        raise
    except _FAULTS as error:
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as a file of embeddings ({reason}): write it again.") from error
