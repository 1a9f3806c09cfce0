"""Which embeddings a run has: what configs and experiment files hold."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal

from datasets.common.errors import UserError

EmbeddingKind = Literal["sequence", "residue"]
MAX_WIDTH = 65_536
"""The largest language model has 15,360 values a residue."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """A file of embeddings and what was found in it.

    file: as the user named it. hash: SHA-256 of its content. kind: one vector a sequence, or one a residue. width: D,
    values of a vector. names_hash: SHA-256 of the names by which the table calls its sequences, where the file goes by
    these; None where it goes by sequences or their hashes.
    """

    file: str
    hash: str
    kind: EmbeddingKind
    width: int
    names_hash: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no search writes, whoever wrote it."""
        for digest in (self.hash, self.names_hash):
            if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise UserError(f"embeddings: {digest[:80]!r} is no hash: expected 64 hexadecimal digits.")
        if not 1 <= self.width <= MAX_WIDTH:
            raise UserError(f"embeddings.width={self.width} is not valid: expected 1 to {MAX_WIDTH:,}.")
        if not self.file or any(character < " " or character in "$\x7f" for character in self.file):
            raise UserError(
                f"The file of embeddings {self.file!r} has a dollar or a control character in its name: rename it."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What a study records: the file's name and what is in it, whatever folder it stands in."""
        known = asdict(self) | {"file": PurePath(self.file).name}
        return {key: value for key, value in known.items() if value is not None}

    @property
    def shown(self) -> str:
        """`1,280 values a sequence`."""
        return f"{self.width:,} values a {self.kind}"
