"""Tables in Parquet: their columns of text and numbers, as text. pyarrow is imported late because it is heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed, Packing
from datasets.tables.columns import Columns
from datasets.tables.text_file import first_bytes

_MAX_ROWS = 50_000_000
_ROWS = 8192  # at a time, where not all are wanted at once


def read_parquet(path: Path) -> Columns:
    """Read the columns of text and numbers as text; a missing value is an empty cell, other columns are left out.

    A UserError is raised if the file cannot be read.
    """
    with _opened(path) as file:
        table = file.read(columns=_names(file), use_threads=False)  # threads would hang a process forked later
        cells = {name: _packed(table.column(name)) for name in table.column_names}
        n = file.metadata.num_rows
    return Columns(cells=cells, lines=np.arange(1, n + 1, dtype=np.int64), where=str(path), kind="Parquet", place="row")


def parquet_names(path: Path) -> list[str]:
    """Return the names of the columns of text and numbers. A UserError is raised if the file cannot be read."""
    with _opened(path) as file:
        return _names(file)


def parquet_rows(path: Path, names: list[str]) -> Iterator[list[list[str]]]:
    """Yield the cells of some columns, each as `read_parquet` has them, some thousand rows at a time.

    A UserError is raised if the file cannot be read.
    """
    with _opened(path) as file:
        for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
            yield [_texts(batch.column(name)) for name in names]


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
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
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


def _texts(column: Any) -> list[str]:
    # Numbers as Python writes them: with all digits, whatever their type.
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _packed(column: Any) -> Packed:
    import pyarrow as pa

    kind = column.type
    column.validate(full=True)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return Packed.of(_texts(column))
    packing = Packing()
    for chunk in column.chunks:
        text = chunk.cast(pa.large_string()).fill_null("")
        _, offsets, codes = text.buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
        if len(text):
            cells = np.frombuffer(codes, dtype=np.uint8)[ends[0] : ends[-1]] if codes else np.zeros(0, dtype=np.uint8)
            packing.add(Packed(cells, np.diff(ends)))
    return packing.packed()
