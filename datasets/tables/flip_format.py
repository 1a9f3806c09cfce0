"""A divided table in FLIP's format: sequences, targets, parts, and what else is known of the rows."""

from collections.abc import Iterator, Sequence
from itertools import islice

from datasets.tables.column_names import ERROR_COLUMN, FLIP_COLUMNS, FOLD_COLUMN, GROUP_COLUMN

_LINES = 4096  # written at a time


def flip_blocks(
    sequence: Sequence[str],
    target: Sequence[str],
    part: Sequence[str],
    validation: Sequence[str],
    group: Sequence[str] | None = None,
    fold: Sequence[str] | None = None,
    error: Sequence[float] | None = None,
) -> Iterator[bytes]:
    """Yield a table in FLIP's format, some lines at a time; groups, folds and errors, where given, in own columns."""
    names, columns = [*FLIP_COLUMNS], [sequence, target, part, validation]
    for name, cells in ((GROUP_COLUMN, group), (FOLD_COLUMN, fold)):
        if cells is not None:
            names.append(name)
            columns.append([_quoted(cell) for cell in cells])
    if error is not None:
        names.append(ERROR_COLUMN)
        columns.append([repr(one) for one in error])
    yield (",".join(names) + "\n").encode()
    rows = zip(*columns, strict=True)
    while lines := [",".join(cells) + "\n" for cells in islice(rows, _LINES)]:
        yield "".join(lines).encode()


def _quoted(cell: str) -> str:
    """Return a cell of a CSV file; quotes stand around what would end it too early."""
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell
