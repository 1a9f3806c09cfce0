"""The embeddings of a run's task: found in their file, and kept for the rows of its split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import named_hash, replaced
from datasets.embeddings.description import EmbeddingConfig
from datasets.embeddings.lookup import NO_NAMES, Lookup, Names, names_hash
from datasets.embeddings.opened import opened_embeddings

_FORMAT = 1  # of what is kept; counts up with every change of its content


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingSet:
    """The embeddings that `config` describes; nothing is read until it is asked for.

    names: gives what the user's table calls its sequences; None for a task that has no table.
    """

    config: EmbeddingConfig
    names: Callable[[], Names] | None = None

    @property
    def key(self) -> str:
        """Names the content: the same key, the same embeddings of the same sequences."""
        names = self._names()
        parts = [_FORMAT, self.config.hash, self.config.names_hash, names_hash(names.of)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def check(self) -> None:
        """Refuse, by a UserError, a file that is missing or that has changed since it was named."""
        found = named_hash(Path(self.config.file), "embeddings")
        if found != self.config.hash:
            raise UserError(
                f"The embeddings {self.config.file} have changed: their hash is {found[:12]}..., that of the search "
                f"{self.config.hash[:12]}...: bring the file of then, or search again with the new one."
            )

    def is_kept(self, path: Path) -> bool:
        """Return whether `path` is what `keep` wrote, as far as its index tells."""
        from datasets.embeddings.store import is_whole_store  # here because it imports torch

        return is_whole_store(path)

    def keep(self, path: Path, sequences: Iterable[bytes], what: str) -> None:
        """Write the embeddings of sequences to `path`, for `datasets.embeddings.store` to read; `what` they are called.

        Raises:
            UserError: The file lacks some, or is not what it should be; or the table calls its sequences by other names
                than those by which they were found when the search began.
        """
        from datasets.embeddings.store import write_store

        with opened_embeddings(Path(self.config.file)) as file, replaced(path) as beside:
            lookup = Lookup(file, kind=self.config.kind, width=self.config.width, names=self._names())
            write_store(beside, lookup, sequences, what)
            if names_hash(lookup.used) != self.config.names_hash:
                raise UserError(
                    f"The names by which {self.config.file} calls the sequences of the table have changed since the "
                    "search began: bring the table of then, or search again."
                )

    def _names(self) -> Names:
        """Those of the table, where the file went by names when the search began."""
        return NO_NAMES if self.names is None or self.config.names_hash is None else self.names()


def describe_embeddings(path: Path) -> EmbeddingConfig:
    """Return what a file of embeddings is, as far as its first entry tells.

    Raises:
        UserError: It is no such file.
    """
    with opened_embeddings(path) as file:
        kind, width = file.kind_and_width
    return EmbeddingConfig(file=str(path), hash=named_hash(path, "embeddings"), kind=kind, width=width)
