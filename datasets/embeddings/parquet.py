"""Embeddings in Parquet: a column of keys, and one of lists, (D,) or (L, D) in each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.embeddings.file import EmbeddingFile, short

_KEYS = ("sequence", "hash", "key", "name", "id")
_VALUES = ("embedding", "embeddings")
_MAX_GROUP_BYTES = 2**32
_MAX_ROWS = 50_000_000


class ParquetFile(EmbeddingFile):
    """A file with the columns `sequence` (or hash, key, name, id) and `embedding`; one row group is in memory."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # here because it is heavy

        super().__init__(path)
        self._file = pq.ParquetFile(path, page_checksum_verification=True)
        metadata, schema = self._file.metadata, self._file.schema_arrow
        if metadata.num_rows > _MAX_ROWS:
            raise self.refuse(f"it has {metadata.num_rows:,} rows", f"expected at most {_MAX_ROWS:,}")
        key, self._column = self._named(schema, _KEYS, "keys"), self._named(schema, _VALUES, "lists of numbers")
        self._depth = self._check_type(schema.field(self._column).type)
        self._starts = np.cumsum([0, *(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))])
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            # Levels and dictionaries are packed as well: what a column takes unpacked is the file's own word for it.
            chunks = [group.column(j) for j in range(group.num_columns)]
            # A value that is repeated takes no room in the file, and 8 bytes in memory.
            n_bytes = max(*(8 * chunk.num_values for chunk in chunks), sum(c.total_uncompressed_size for c in chunks))
            if n_bytes > _MAX_GROUP_BYTES:
                raise self.refuse(
                    f"its row group {i} takes {n_bytes / 1e9:.3g} GB unpacked",
                    "write groups of fewer rows (row_group_size)",
                )
        self._group = -1
        self._rows: Any = None
        self.keys = self._keys(pq.ParquetFile(path, read_dictionary=[key]).read(columns=[key], use_threads=False))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def about(self, key: Any) -> tuple[tuple[int, ...], int]:
        """As for other files."""
        values = self._values(key)
        self.check_floats(values.dtype, values.shape, f"row {key + 1}")
        return values.shape, values.itemsize

    def read(self, key: Any) -> NDArray[np.floating]:
        """As for other files."""
        return self._values(key)

    def _keys(self, table: Any) -> dict[str, int]:
        """The rows by their keys, of which each stands once; one that is repeated is never laid out as a whole."""
        found: dict[str, int] = {}
        for chunk in table.column(0).chunks:
            texts = [str(text) for text in getattr(chunk, "dictionary", chunk).to_pylist()]
            numbers = chunk.indices.to_pylist() if hasattr(chunk, "indices") else range(len(texts))
            for number in numbers:
                text = "" if number is None else texts[number]
                if text in found:
                    raise self.refuse(f"the key {short(text)} stands twice")
                found[text] = len(found)
        return found

    def _named(self, schema: Any, known: tuple[str, ...], what: str) -> str:
        names = list(schema.names)
        found = next((name for name in known if names.count(name) == 1), None)
        if found is None:
            raise self.refuse(
                f"no column, or several, are called {' or '.join(map(repr, known))}; its columns are "
                f"{', '.join(map(short, names[:12]))}",
                f"name the column of {what} so",
            )
        return found

    def _check_type(self, kind: Any) -> int:
        """How deep its lists are: 1 for (D,), 2 for (L, D)."""
        from pyarrow import types

        depth = 0
        while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind, depth = kind.value_type, depth + 1
        if depth not in (1, 2) or not types.is_floating(kind):
            raise self.refuse(
                f"its column {self._column!r} is of another type than lists of floating-point numbers",
                "expected (D,) for a sequence or (L, D) for its residues",
            )
        return depth

    def _values(self, row: int) -> NDArray[np.floating]:
        """The lists of a row as an array; all lists of numbers in it have one length."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if group != self._group:
            table = self._file.read_row_group(group, columns=[self._column], use_threads=False)
            column = table.column(0).combine_chunks()
            column.validate(full=True)
            self._group, self._rows = group, column
        cell = self._rows[int(row - self._starts[group])]
        values = cell.values if cell.is_valid else None
        if values is None or values.null_count:
            raise self.refuse(f"row {row + 1} has no embedding, or one with gaps", "leave the row out")
        shape: tuple[int, ...] = (len(values),)
        if self._depth == 2:
            inner = values.flatten()
            widths = set(values.value_lengths().to_pylist())
            if len(widths) != 1 or inner.null_count:
                raise self.refuse(f"row {row + 1} has residues with different numbers of values, or with gaps")
            shape, values = (len(values), widths.pop()), inner
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
