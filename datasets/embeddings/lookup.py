"""By which names a file of embeddings may call a sequence, and the entry that it then has."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingKind
from datasets.embeddings.file import EmbeddingFile, reading, short
from datasets.sequences.gaps import ungapped

if TYPE_CHECKING:
    from datasets.tables.survey import Survey
    from datasets.task import Source

_NAMES = ("name", "id")
"""Columns of a table that name its sequences; without them that of the mutations does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """What a table, or a file of candidates, calls its sequences.

    of: sequence -> its name. shared: names of several sequences, which tell nothing.
    """

    of: Mapping[bytes, str]
    shared: frozenset[str] = frozenset()

    @classmethod
    def pairs(cls, sequences: Iterable[bytes], names: Iterable[str]) -> Names:
        """Take the names of sequences, the first one of each; empty ones are none."""
        of: dict[bytes, str] = {}
        owner: dict[str, bytes] = {}
        shared = set()
        for sequence, name in zip(sequences, names, strict=True):
            if not name:
                continue
            of.setdefault(sequence, name)
            if owner.setdefault(name, sequence) != sequence:
                shared.add(name)
        return cls(of=of, shared=frozenset(shared))


NO_NAMES = Names(of={})


def names_of_table(found: Survey) -> Names:
    """Return what a user's table calls its variants: its column name or id, or else their mutations."""
    by_lower = {name.lower(): name for name in found.columns.cells}
    column = next((by_lower[name] for name in _NAMES if name in by_lower), found.table.mutation_column)
    if column is None or column == found.table.sequence_column:
        return NO_NAMES
    rows = np.searchsorted(found.columns.lines, found.lines)
    names = [name.strip() for name in found.columns.cells[column].take(rows)]
    return Names.pairs(map(ungapped, found.sequences.slices()), names)


def hashes_of(sequence: bytes) -> Iterator[str]:
    """Yield the hashes by which programs call a sequence: biotrainer's, bio-embeddings', and the plain SHA-256."""
    yield hashlib.sha256(sequence + b"_%d" % len(sequence)).hexdigest()
    yield hashlib.md5(sequence, usedforsecurity=False).hexdigest()
    yield hashlib.sha256(sequence).hexdigest()


def names_of_source(source: Source) -> Names:
    """Return what the source of a task calls its sequences; only a user's own table calls them anything."""
    table, path = getattr(source, "table", None), getattr(source, "path", None)
    if table is None or path is None:
        return NO_NAMES
    from datasets.tables.survey import survey  # here because usage errors do not wait for NumPy's neighbours

    return names_of_table(getattr(source, "loaded", None) or survey(path, table, is_reread=True))


def names_hash(used: Mapping[bytes, str]) -> str | None:
    """Return the SHA-256 of the names of sequences, whatever their order; None without any."""
    digest = hashlib.sha256()
    for sequence in sorted(used):
        digest.update(sequence + b"\t" + used[sequence].encode() + b"\n")
    return digest.hexdigest() if used else None


class Lookup:
    """Finds the entries of sequences in a file, all of which have to be of one kind and width.

    Attributes:
        used: The names by which alone entries were found.
    """

    def __init__(self, file: EmbeddingFile, *, kind: EmbeddingKind, width: int, names: Names = NO_NAMES) -> None:
        self.file, self.names = file, names
        self.used: dict[bytes, str] = {}
        self.kind, self.width = kind, width

    def find(self, sequence: bytes) -> Hashable | None:
        """Return the key of a sequence's entry, None if there is none.

        Raises:
            UserError: The entry is known by a name that several sequences, or several entries, have.
        """
        text = sequence.decode("ascii")
        for is_second in (False, True):
            known = self._second_keys() if is_second else self.file.keys
            if known.get(text) is not None:
                return known[text]
            found = next((known[digest] for digest in hashes_of(sequence) if known.get(digest) is not None), None)
            if found is not None:
                return found
        name = self.names.of.get(sequence)
        return None if name is None else self._find_by_name(sequence, name)

    def _find_by_name(self, sequence: bytes, name: str) -> Hashable | None:
        key, others = self.file.keys.get(name), self._second_keys()
        found = others.get(name, key)
        if found is None and key is None:
            return None
        if (
            key is not None and found != key
        ):  # such as the numbers of entries, and sequences that are numbered otherwise
            raise self.file.refuse(
                f"it has an entry {short(name)}, and {short(name)} is the original_id of another one",
                "let it go by sequences",
            )
        if name in self.names.shared:
            raise self.is_shared(name)
        self.used[sequence] = name
        return found

    def is_shared(self, name: str) -> UserError:
        """The error for a name of several sequences."""
        return self.file.refuse(
            f"it goes by names, and {short(name)} is the name of several sequences",
            "name them apart, or let it go by sequences",
        )

    def _second_keys(self) -> Mapping[str, Hashable | None]:
        with reading(self.file.path):
            return self.file.second_keys

    def check(self, key: Hashable, n_residues: int) -> int:
        """Refuse, by a UserError, an entry that is no embedding of so many residues, before it is read.

        Returns:
            The bytes of each of its values.
        """
        with reading(self.file.path):
            shape, n_bytes = self.file.about(key)
        if shape[-1] != self.width:
            raise self.file.refuse(
                f"its embeddings have different widths ({shape[-1]:,} and {self.width:,})",
                "embed all sequences with one model",
            )
        if len(shape) != (1 if self.kind == "sequence" else 2):
            raise self.file.refuse(
                f"some of its embeddings are of sequences and others of residues (entry {short(str(key))}: {shape})",
                "write all in one way",
            )
        if self.kind == "residue" and shape[0] != n_residues:
            raise self.file.refuse(
                f"the entry {short(str(key))} has {shape[0]:,} rows, and its sequence {n_residues:,} residues",
                "write a row for each residue, without those of special tokens",
            )
        return n_bytes

    def read(self, key: Hashable) -> NDArray[np.floating]:
        """Return the entry of a key that `check` has passed, (1, D) or (L, D), float16 or float32.

        Raises:
            UserError: It holds NaN, or what is no finite number in single precision.
        """
        with reading(self.file.path):
            values = self.file.read(key)
        with np.errstate(over="ignore"):
            values = values.astype(np.float16 if values.dtype.itemsize == 2 else np.float32)
        if not np.isfinite(values).all():
            raise self.file.refuse(
                f"the entry {short(str(key))} holds NaN or infinite numbers", "embed its sequence again"
            )
        return values.reshape(-1, self.width)

    def find_all(self, sequences: Sequence[bytes], what: str, advice: str = "") -> list[Hashable]:
        """Return the keys of sequences, which are called `what` in errors; `advice` ends these.

        Raises:
            UserError: Some have no entry; the sentence says how many, and names the first.
        """
        found = [self.find(sequence) for sequence in sequences]
        lacking = [sequence for sequence, key in zip(sequences, found, strict=True) if key is None]
        if lacking:
            first = lacking[0].decode("ascii")
            raise UserError(
                f"{self.file.path} has no embedding of {len(lacking):,} of {len(sequences):,} {what}; the first is "
                f"{short(first)} ({len(first):,} residues): embed them too, and call each by its sequence, its hash or "
                f"its name (the file has {short(next(iter(self.file.keys)))}){advice}."
            )
        return [key for key in found if key is not None]
