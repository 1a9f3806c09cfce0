"""A table as it was read: text cells in named columns, nothing checked but its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.packed import Packed


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """N rows of text.

    cells: each column's N cells, by its name. lines: (N,) int64, line numbers in the file, 1-based (in a Parquet file
    numbers of rows). where: the file, for sentences. kind: "CSV", "TSV", "FASTA", "Parquet". place: "line" or "row".
    notes: what was unusual about the file, and accepted.
    """

    cells: Mapping[str, Packed]
    lines: NDArray[np.int64]
    where: str
    kind: str
    place: str = "line"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return N."""
        return len(self.lines)
