"""Tables in Parquet: their columns of text, numbers and dates, as text. pyarrow is imported late: it is heavy."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets.common.errors import UserError
from datasets.tables.columns import MAX_ROWS, RowBatch, TableStream, checked_names
from datasets.tables.formats.text_file import first_bytes

_ROWS = 8192  # at a time


def open_parquet(path: Path) -> TableStream:
    """Read the columns of text, numbers and dates as text; a missing value is an empty cell, others are left out.

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
        for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(names)), use_threads=False):
            lines = np.arange(n_before + 1, n_before + 1 + len(batch), dtype=np.int64)
            # By their places: several may have no name, and one that is not shown may be called as one that is.
            shown = [column for column in batch.columns if _is_shown(column.type)]
            yield RowBatch([_texts(column) for column in shown], lines)
            n_before += len(batch)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the file; what cannot be read of it meanwhile is a UserError."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    first_bytes(path)  # says what is wrong with a path that leads to no file
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise UserError(f"{path} has {file.metadata.num_rows:,} rows, expected at most {MAX_ROWS:,}.")
            checked_names(file.schema_arrow.names, str(path))
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, SystemError) as error:
        # The last is Python's, of a batch that says it has fewer than no rows.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a Parquet file that can be read ({reason}); write it again.") from error


def _names(file: Any) -> list[str]:
    """Return which columns hold text, numbers, or dates."""
    return [str(field.name) for field in file.schema_arrow if _is_shown(field.type)]


def _is_shown(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(
        _is_text(kind) or types.is_boolean(kind) or is_number or types.is_date(kind) or types.is_timestamp(kind)
    )


def _is_text(kind: Any) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _texts(column: Any) -> Any:
    """Return the cells as large_string, once they are known to be what the file says."""
    import pyarrow as pa

    column.validate(full=True)
    if _is_text(column.type):
        return column.cast(pa.large_string()).fill_null("")
    if pa.types.is_timestamp(column.type):  # as Excel's are read
        values = _values(column.cast(pa.timestamp("us"), safe=False))
        texts = [value.isoformat(" ") if isinstance(value, datetime.datetime) else value for value in values]
    else:  # numbers as Python writes them: with all digits, whatever their type
        texts = [None if value is None else str(value) for value in _values(column)]
    return pa.array(texts, type=pa.large_string()).fill_null("")


def _values(column: Any) -> list[Any]:
    """Return the cells as Python's values; of dates and times that Python knows none for, pyarrow's text."""
    import pyarrow as pa

    def value(cell: Any) -> Any:
        try:
            return cell.as_py()
        except (ValueError, OverflowError):  # after the year 9999, or before the first
            return str(cell.cast(pa.string()))

    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return list(map(value, column))
