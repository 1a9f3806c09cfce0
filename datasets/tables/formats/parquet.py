"""Tables in Parquet: their columns of text and numbers, as text. pyarrow is imported late because it is heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets.common.errors import UserError
from datasets.tables.columns import RowBatch, TableStream
from datasets.tables.formats.text_file import first_bytes

_MAX_ROWS = 50_000_000
_ROWS = 8192  # at a time


def open_parquet(path: Path) -> TableStream:
    """Read the columns of text and numbers as text; a missing value is an empty cell, other columns are left out.

    A UserError is raised if the file cannot be read.
    """
    with _opened(path) as file:
        names = _names(file)
    return TableStream(
        names=names, header=str(path), batches=_batches(path, names), where=str(path), kind="Parquet", place="row"
    )


def _batches(path: Path, names: list[str]) -> Iterator[RowBatch]:
    n_before = 0
    with _opened(path) as file:
        for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
            lines = np.arange(n_before + 1, n_before + 1 + len(batch), dtype=np.int64)
            yield RowBatch([_texts(batch.column(name)) for name in names], lines)
            n_before += len(batch)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the file; what cannot be read of it meanwhile is a UserError."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    first_bytes(path)  # says what is wrong with a path that leads to no file
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > _MAX_ROWS:
                raise UserError(f"{path} has {file.metadata.num_rows:,} rows, expected at most {_MAX_ROWS:,}.")
            names = file.schema_arrow.names
            twice = [name for i, name in enumerate(names) if name in names[:i]]
            if twice:
                raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one of them.")
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, SystemError) as error:
        # The last is Python's, of a batch that says it has fewer than no rows.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a Parquet file that can be read ({reason}); write it again.") from error


def _names(file: Any) -> list[str]:
    """Return which columns hold text or numbers."""
    from pyarrow import types

    def is_shown(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or is_number)

    return [str(field.name) for field in file.schema_arrow if is_shown(field.type)]


def _texts(column: Any) -> Any:
    """Return the cells as large_string, once they are known to be what the file says."""
    import pyarrow as pa

    column.validate(full=True)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.large_string()).fill_null("")
    # Numbers as Python writes them: with all digits, whatever their type.
    return pa.array(["" if value is None else str(value) for value in column.to_pylist()], type=pa.large_string())
