"""Parquet, which needs the package pyarrow: the extra `parquet`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns

_MAX_ROWS = 50_000_000


def read_parquet(path: Path) -> Columns:
    """Read the columns of text and numbers as text; a missing value is an empty cell, other columns are left out.

    A UserError is raised if pyarrow is missing or the file cannot be read.
    """
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            f"{path} is a Parquet file, which needs the package pyarrow: install it "
            "(pip install 'pyarrow>=15'), or save the table as CSV."
        ) from None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > _MAX_ROWS:
                raise UserError(f"{path} has {file.metadata.num_rows:,} rows, expected at most {_MAX_ROWS:,}.")
            names = file.schema_arrow.names
            twice = [name for i, name in enumerate(names) if name in names[:i]]
            if twice:
                raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one of them.")
            table = file.read()
        cells = {}
        for name in names:
            values = _text(pa, table.column(name))
            if values is not None:
                cells[str(name)] = Packed.of(values)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a Parquet file that can be read ({reason}); write it again.") from error
    return Columns(
        cells=cells,
        lines=np.arange(1, table.num_rows + 1, dtype=np.int64),
        where=str(path),
        kind="Parquet",
        place="row",
    )


def _text(pa, column) -> list[str] | None:  # type: ignore[no-untyped-def]
    """Return a column's cells, or None if it holds neither text nor numbers."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ["" if value is None else value for value in column.to_pylist()]
    if pa.types.is_boolean(kind):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return ["" if value is None else str(value) for value in column.to_pylist()]
    return None
