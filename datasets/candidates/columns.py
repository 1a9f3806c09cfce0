"""Where the candidates of a table stand: their columns, as they are named, as in training, or as is usual."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from datasets.common.errors import UserError, nearest
from datasets.sequences.chains import DIVIDER, DIVIDERS, has_chains
from datasets.tables.column_names import MUTATION, SEQUENCE
from datasets.tables.columns import RowBatch, TableStream
from datasets.tables.table import Table

Label = Literal["sequence", "mutations"]
MUTATIONS = ("mutations", "mutation", "mutant", "variant")
_KNOWN: dict[str, Label] = {
    "sequence": "sequence",
    **dict.fromkeys(MUTATIONS, "mutations"),
    **dict.fromkeys(SEQUENCE, "sequence"),
    **dict.fromkeys(MUTATION, "mutations"),
}
"""Names of columns, in lower case, the first ones first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateColumns:
    """Where the candidates of a table stand.

    sequence, mutation: the column as the user names it; None is found out. trained_sequence, trained_mutation: those of
    the table that was trained on, which are looked for first. sheet: of an Excel file. chains: the names of the chains
    that each has, if there are several. chain_columns, trained_chain_columns: those that hold one chain each.
    trained_sheet: that of the table that was trained on, `trained_file`, which is read of several where none is named.
    """

    sequence: str | None = None
    mutation: str | None = None
    trained_sequence: str | None = None
    trained_mutation: str | None = None
    sheet: str | None = None
    chains: str = ""
    chain_columns: tuple[str, ...] = ()
    trained_chain_columns: tuple[str, ...] = ()
    trained_sheet: str | None = None
    trained_file: str | None = None

    @classmethod
    def like(
        cls,
        table: Table | None,
        *,
        sequence: str | tuple[str, ...] | None,
        mutation: str | None,
        sheet: str | None,
        data: Path | None = None,
    ) -> Self:
        """Those of candidates of a model that was trained on a user's `table`, if on any, which is at `data` by now."""
        trained = (None, None) if table is None else (table.sequence_column, table.mutation_column)
        return cls(
            sequence=sequence if isinstance(sequence, str) else None,
            mutation=mutation,
            trained_sequence=trained[0],
            trained_mutation=trained[1],
            sheet=sheet,
            chain_columns=() if sequence is None or isinstance(sequence, str) else tuple(sequence),  # a list, of Python
            trained_chain_columns=() if table is None else table.chain_columns,
            trained_sheet=None if table is None else table.sheet,
            trained_file=None if table is None else str(data or table.file),
        )

    def usual_sheet(self, path: Path) -> str | None:
        """Return the sheet of a workbook that is read where none is named.

        None for the workbook that was trained on: which of its sheets holds candidates is not known.
        """
        with contextlib.suppress(OSError):
            if self.trained_file is not None and path.samefile(self.trained_file):
                return None
        return self.trained_sheet

    @property
    def trained(self) -> dict[str, Label]:
        """The name of the column that the variants of the table that was trained on were read from, if it is known."""
        if self.trained_sequence is not None:
            return {self.trained_sequence: "sequence"}
        return {} if self.trained_mutation is None else {self.trained_mutation: "mutations"}

    @property
    def usual(self) -> dict[str, Label]:
        """Names that are looked for, in lower case, the first ones first."""
        first: dict[str, Label] = {name.lower(): label for name, label in self.trained.items()}
        first.setdefault("sequence", "sequence")
        if self.trained_mutation is not None:
            first.setdefault(self.trained_mutation.lower(), "mutations")
        return {**first, **{name: label for name, label in _KNOWN.items() if name not in first}}


ANY_COLUMNS = CandidateColumns()
"""Those that are called as such columns usually are."""


def stripped(cells: Any) -> list[str]:
    """Return the cells of a column of pyarrow's without blanks around them."""
    return list(map(str.strip, cells.to_pylist()))


def joined_cells(table: TableStream, batch: RowBatch, parts: Sequence[int]) -> list[str]:
    """Return the chains of each candidate of a batch, which stand in the columns with the numbers `parts`.

    Raises:
        UserError: A cell is divided into several chains itself; beside an empty one they would pass for its neighbour.
    """
    columns = [stripped(batch.cells[part]) for part in parts]
    if any(divider in cells for cells in map("".join, columns) for divider in DIVIDERS):
        row = next(row for row, chains in enumerate(zip(*columns, strict=True)) if any(map(has_chains, chains)))
        raise UserError(
            f"{table.where}, {table.place} {batch.lines[row]}: a cell of "
            f"{', '.join(repr(table.names[part]) for part in parts)} is divided into several chains; write one chain a "
            "column."
        )
    return [DIVIDER.join(chains) for chains in zip(*columns, strict=True)]


def chain_columns(table: TableStream, columns: CandidateColumns) -> list[int]:
    """Return the numbers of the columns that hold a chain each, none where one column holds all of a candidate.

    Raises:
        UserError: There is no column of a name that the user gave.
    """
    names = list(table.names)
    for name in columns.chain_columns:
        if name not in names:
            raise UserError(
                f"{table.header}: no column is called {name!r} (--sequence-column); {shown(table)}."
                f"{nearest(name, names)}"
            )
    is_open = columns.sequence is None and columns.mutation is None and not columns.chain_columns
    if is_open and not all(name in names for name in columns.trained_chain_columns):
        return []
    return [names.index(name) for name in columns.chain_columns or (columns.trained_chain_columns if is_open else ())]


def shown(table: TableStream) -> str:
    """Return the names of a table's columns, in a sentence."""
    more = f" and {len(table.names) - 12} more" if len(table.names) > 12 else ""
    return f"its columns are {', '.join(map(repr, table.names[:12]))}{more}"
