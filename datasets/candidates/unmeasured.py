"""Candidates that stand in the training table itself: its rows without a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datasets.candidates.candidates import BLOCK_ROWS, Stream, blocks_of
from datasets.candidates.columns import Label
from datasets.candidates.files import NAME_COLUMNS, Cells, one_line
from datasets.candidates.measured import LeftOut, MeasuredVariants, without_measured
from datasets.common.errors import UserError
from datasets.sequences.chains import chains_in
from datasets.sequences.gaps import protein
from datasets.sequences.mutations import normal_form
from datasets.tables.columns import Columns
from datasets.tables.measurements import MISSING
from datasets.tables.survey import survey
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import TableSource


def read_unmeasured(
    source: TableSource, task: Task, left_out: LeftOut, *, has_names: bool = False, scores: Sequence[str] = ()
) -> Stream:
    """Read the rows of a user's table that have no measurement (an empty cell, `n.d.` and the like).

    The table is read as it was for training, all of it at once; its rows are handed on block by block. A variant that
    was measured in another row is left out, and counted in `left_out`. The names are what stands in its column `name`,
    or else `id`; `scores` are names of score columns, which are read where the table has them.

    Raises:
        UserError: The table cannot be read, has no such rows, or none of a variant without any measurement; or has no
            names where they are asked for.
    """
    source.locate(data_dir=None, announce=lambda sentence: None)  # says in a sentence what is no file
    found = survey(source.path, source.table, is_reread=True)
    columns, table = found.columns, found.table
    assert table.target_column is not None
    measured = [columns.cells[name] for name in table.replicate_columns or (table.target_column,)]
    rows = [
        row
        for row, cells in enumerate(zip(*measured, strict=True))
        if all(cell.strip().lower() in MISSING for cell in cells)
    ]
    if table.stops == "drop":
        rows = [row for row in rows if not _has_stop(columns, table, row)]
    if not rows:
        raise UserError(
            f"{source.path} has no row without a measurement (where {table.target_column!r} is empty, n.d. or the "
            "like): give candidates with --input or --mutagenesis, or the whole table with --data FILE."
        )
    label: Label = "mutations" if table.sequence_column is None else "sequence"
    column = table.sequence_column or table.mutation_column
    assert column is not None
    here = tuple(name for name in scores if name in columns.cells)
    cells = _cells(columns, rows, column, _name_column(columns) if has_names else None, here)
    stream = Stream(label=label, blocks=blocks_of(source.path, cells, label, task), scores=here)
    known = frozenset(protein(one, task.chains) for one in found.sequences.slices() if one)
    return without_measured(stream, MeasuredVariants(known=known, chains=task.chains), left_out)


def _has_stop(columns: Columns, table: Table, row: int) -> bool:
    """Whether a row is of a variant with a stop codon, which training set aside."""
    if table.sequence_column is not None and "*" in "".join(chains_in(columns.cells[table.sequence_column][row])):
        return True
    return table.mutation_column is not None and "*" in normal_form(columns.cells[table.mutation_column][row])


def _name_column(columns: Columns) -> str:
    lower = {name.lower(): name for name in reversed(list(columns.cells))}
    named = next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    if named is None:
        raise UserError(f"{columns.where}: no column is called 'name' or 'id': name one so, or leave --names out.")
    return named


def _cells(
    columns: Columns, rows: Sequence[int], column: str, named: str | None, scores: Sequence[str]
) -> Iterator[Cells]:
    for first in range(0, len(rows), BLOCK_ROWS):
        some = rows[first : first + BLOCK_ROWS]
        yield Cells(
            texts=[columns.cells[column][row].strip() for row in some],
            lines=columns.lines[some].tolist(),
            names=None if named is None else [one_line(columns.cells[named][row]) for row in some],
            place=columns.place,
            scores={name: [columns.cells[name][row] for row in some] for name in scores},
        )
