"""Tables on a terminal, in a file or in a pipe: columns of text."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines of the rows, of which the first are the headers.

    They are as wide as their cells want to be: a name that is cut off names nothing.
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows)
