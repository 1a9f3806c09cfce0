"""A table as it is read: text cells in named columns, nothing checked but its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed, Packing

_MAX_COLUMNS = 10_000
MAX_ROWS = 50_000_000
"""Of a table that is read as a whole."""
Place = Literal["line", "row"]
"""What the rows of a table are numbered by: lines, or, in a file that has none, rows."""


class RowBatch(NamedTuple):
    """Some rows: their `cells` by column, arrays of pyarrow's large_string, and their numbers `lines`, 1-based."""

    cells: Sequence[Any]
    lines: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableStream:
    """A table that is read batch by batch.

    names: its columns. header: where these are named, for sentences. batches: all rows; a UserError is raised on the
    way where the file cannot be read. The others are as in `Columns`; all notes are there once the rows are read.
    """

    names: Sequence[str]
    header: str
    batches: Iterator[RowBatch]
    where: str
    kind: str
    place: Place = "line"
    notes: Sequence[str] = ()

    def columns(self) -> Columns:
        """Read the whole table; columns without a name are left out."""
        packings = [Packing() for _ in self.names]
        lines, n_rows = [np.zeros(0, dtype=np.int64)], 0
        for batch in self.batches:
            for packing, cells in zip(packings, batch.cells, strict=True):
                packing.add_array(cells)
            lines.append(batch.lines)
            n_rows += len(batch.lines)
            if n_rows > MAX_ROWS:
                raise UserError(f"{self.where} has more than {MAX_ROWS:,} rows: divide it.")
        return Columns(
            cells={name: packing.packed() for name, packing in zip(self.names, packings, strict=True) if name},
            lines=np.concatenate(lines),
            where=self.where,
            kind=self.kind,
            place=self.place,
            notes=tuple(self.notes),
            header=self.header,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """N rows of text.

    cells: each column's N cells, by its name. lines: (N,) int64, line numbers in the file, 1-based (in a Parquet or an
    Excel file numbers of rows). where: the file, for sentences. kind: "CSV", "TSV", "FASTA", "Parquet", "Excel".
    place: "line" or "row". notes: what was unusual about the file, and accepted. header: where its columns are named,
    for sentences; empty where that is the first line.
    """

    cells: Mapping[str, Packed]
    lines: NDArray[np.int64]
    where: str
    kind: str
    place: Place = "line"
    notes: tuple[str, ...] = ()
    header: str = ""

    def __len__(self) -> int:
        """Return N."""
        return len(self.lines)


def checked_names(names: Sequence[str], header: str) -> list[str]:
    """Return the names of columns, of which some may be empty; a UserError says where they stand, in `header`, and
    which two are one, or that they are too many.
    """
    if len(names) > _MAX_COLUMNS:
        raise UserError(f"{header}: the header names {len(names):,} columns, expected {_MAX_COLUMNS:,}.")
    known: set[str] = set()
    for name in filter(None, names):
        if name in known:
            raise UserError(f"{header}: two columns are called {name!r}; rename one of them.")
        known.add(name)
    return list(names)
