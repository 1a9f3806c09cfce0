"""The embeddings of candidates, block by block, from a file that is looked up while they are predicted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.files import named_hash
from datasets.embeddings.description import EmbeddingConfig
from datasets.embeddings.lookup import Lookup, Names
from datasets.embeddings.opened import opened_embeddings
from datasets.embeddings.store import GivenEmbeddings
from datasets.sequences.codes import as_bytes
from datasets.sequences.gaps import ungapped


class CandidateEmbeddings:
    """Gives candidates the embeddings that a model was trained to see. A context manager: the file stays open.

    Args:
        config: What the experiment says of its embeddings.
        file: Those of the candidates; None is the file of training, if it is still there.

    Raises:
        UserError: There is no such file, or it is of another kind or width.
    """

    def __init__(self, config: EmbeddingConfig, file: Path | None = None) -> None:
        self._config = config
        if file is None:
            file = Path(config.file)
            if not file.is_file() or named_hash(file, "embeddings") != config.hash:
                raise UserError(
                    f"This experiment was trained with embeddings ({config.file}, {config.shown}), and the file is not "
                    "here as it was: give those of the candidates with --embeddings FILE."
                )
        self._lock = threading.Lock()  # threads predict blocks at once
        self._owners: dict[str, int] = {}  # the hash of the sequence that each name led to, in all blocks
        with ExitStack() as stack:
            self._file = stack.enter_context(opened_embeddings(file))
            kind, width = self._file.kind_and_width
            if (kind, width) != (config.kind, config.width):
                raise UserError(
                    f"{file} has {width:,} values a {kind}, and the experiment was trained with {config.shown} "
                    f"({config.file}): give embeddings of the same language model."
                )
            self._stack = stack.pop_all()

    def __enter__(self) -> CandidateEmbeddings:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __call__(
        self, residues: NDArray[np.uint8], lengths: NDArray[np.int64], names: Sequence[str] | None = None
    ) -> GivenEmbeddings:
        """Return the embeddings of n sequences, residues (n, L) with zeros behind lengths (n,), which may have names.

        Raises:
            UserError: Some have none, or one is not what it should be.
        """
        sequences = list(map(ungapped, as_bytes(residues, lengths)))
        with self._lock:
            known = Names.pairs(sequences, names or [""] * len(sequences))
            lookup = Lookup(self._file, kind=self._config.kind, width=self._config.width, names=known)
            by_name = "; those of the training sequences go by names, and --names reads the candidates'"
            advice = "" if self._config.names_hash is None else by_name
            found = lookup.find_all(sequences, "candidates", advice)
            for sequence, name in lookup.used.items():
                self._owners.setdefault(name, hash(sequence))
            for sequence, name in known.of.items():
                if self._owners.get(name, hash(sequence)) != hash(sequence):
                    raise lookup.is_shared(name)
            entries = []
            for key, sequence in zip(found, sequences, strict=True):
                lookup.check(key, len(sequence))
                entries.append(lookup.read(key))
        return GivenEmbeddings(entries, self._config.kind, self._config.width)
