"""A table as it was read: text cells in named columns, nothing checked but its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import UserError
from datasets.packed import Packed


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


def read_columns(path: Path) -> Columns:
    """Read a table of any format that is known: CSV, TSV, FASTA (each plain or gzipped) or Parquet.

    What the file holds decides, not its name. A UserError is one sentence with the line that cannot be read.
    """
    from datasets.text_file import first_bytes

    start = first_bytes(path)
    if start.startswith(b"PAR1"):
        from datasets.parquet import read_parquet

        columns = read_parquet(path)
    elif _is_fasta(start):
        from datasets.fasta import read_fasta

        columns = read_fasta(path)
    else:
        from datasets.delimited import read_delimited

        columns = read_delimited(path)
    if not len(columns):
        raise UserError(f"{path} has no rows: after its header a line for each variant is expected.")
    return columns


def _is_fasta(start: bytes) -> bool:
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().replace(b"\0", b"").lstrip(b"\xff\xfe").startswith(b">")
