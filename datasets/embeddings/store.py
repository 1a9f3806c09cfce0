"""The embeddings of a split's sequences, or of some candidates: by sequence, whatever file they came from."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingKind
from datasets.embeddings.lookup import Lookup
from datasets.features.segment import BrokenSegmentError, Segment, write_segment
from datasets.sequences.gaps import ungapped

Residues = NDArray[np.uint8]


class Embeddings(Protocol):
    """Embeddings of N sequences, as they are in their file: one vector of each, or one of each residue."""

    @property
    def kind(self) -> EmbeddingKind:
        """What there is a vector of."""

    @property
    def width(self) -> int:
        """D."""

    def __len__(self) -> int:
        """N."""

    def entry(self, row: int) -> NDArray[np.floating]:
        """Return (1, D) or (L, D), float16 or float32."""


class StoredEmbeddings:
    """Those of N sequences in a file that `write_store` wrote; it is mapped, and what is never asked for never read.

    Args:
        path: The file.
        kind: What there is a vector of.
        sequences: (N) residues, aligned or not.

    Raises:
        UserError: The file is missing or broken, or lacks one; it is removed, so that the next command makes it anew.
    """

    def __init__(self, path: Path, kind: EmbeddingKind, sequences: Iterable[bytes]) -> None:
        self.kind = kind
        self._path = path
        try:
            self._segment = Segment(path)
        except (BrokenSegmentError, OSError):
            raise self._broken() from None
        known = {digest.tobytes(): number for number, digest in enumerate(self._segment.hashes)}
        try:
            self._numbers = [known[_digest(ungapped(sequence))] for sequence in sequences]
        except KeyError:
            raise self._broken() from None
        self._dtype = np.float16 if self._segment.dtype == torch.float16 else np.float32

    @property
    def width(self) -> int:
        """D."""
        width: int = self._segment.width
        return width

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self, rows: NDArray[np.int64]) -> StoredEmbeddings:
        """Return those of some rows (n,)."""
        some = copy.copy(self)
        some._numbers = [self._numbers[row] for row in rows.tolist()]
        return some

    def entry(self, row: int) -> NDArray[np.floating]:
        """Return (1, D) or (L, D)."""
        found = self._segment.entry(self._numbers[row])
        if found is None:
            raise self._broken()
        return found.view(self._dtype)

    def _broken(self) -> UserError:
        self._path.unlink(missing_ok=True)
        return UserError(
            f"The prepared embeddings {self._path} are missing or broken; start the command again to make them anew."
        )


class GivenEmbeddings:
    """Those of N sequences in memory."""

    def __init__(self, entries: Sequence[NDArray[np.floating]], kind: EmbeddingKind, width: int) -> None:
        self.kind, self.width = kind, width
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, row: int) -> NDArray[np.floating]:
        """Return (1, D) or (L, D)."""
        return self._entries[row]


def is_whole_store(path: Path) -> bool:
    """Return whether `write_store` wrote the file, as far as its index tells."""
    try:
        Segment(path)
        return True
    except (BrokenSegmentError, OSError):
        return False


def write_store(path: Path, lookup: Lookup, sequences: Iterable[bytes], what: str) -> None:
    """Write the embeddings of sequences, each once and without gaps, to `path`; `what` they are called in errors.

    They are kept as they are: float16 where all are, float32 otherwise. No more than one is in memory at a time.

    Raises:
        UserError: The file lacks some, or one is not what it should be.
        OSError: There is no room.
    """
    distinct = list(dict.fromkeys(map(ungapped, sequences)))
    found = lookup.find_all(distinct, what)
    # Their sizes are looked at first, so that nothing is written of a file that is refused for one of them.
    sizes = [lookup.check(key, len(sequence)) for key, sequence in zip(found, distinct, strict=True)]
    dtype = np.dtype(np.float16 if max(sizes) == 2 else np.float32)
    # In the order of the file, which is read from its beginning to its end.
    place = {key: i for i, key in enumerate(lookup.file.keys.values())}
    order = sorted(range(len(found)), key=lambda i: place[found[i]])

    def entries() -> Iterator[Residues]:
        for i in order:
            yield np.ascontiguousarray(lookup.read(found[i]), dtype).view(np.uint8)

    digests = b"".join(_digest(distinct[i]) for i in order)
    write_segment(
        path,
        hashes=np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32),
        lengths=[1 if lookup.kind == "sequence" else len(distinct[i]) for i in order],
        entries=entries(),
        width=lookup.width,
        dtype=torch.float16 if dtype.itemsize == 2 else torch.float32,
    )


def _digest(sequence: bytes) -> bytes:
    return hashlib.sha256(sequence).digest()
