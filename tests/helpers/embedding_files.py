"""Files of embeddings as people have them, and as nobody should, written for a test."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray
from safetensors.numpy import save_file

Entries = Mapping[str, NDArray[Any]]


def biotrainer_hash(sequence: str) -> str:
    """What biotrainer calls a sequence: `biotrainer.utilities.hashing.calculate_sequence_hash`."""
    return hashlib.sha256(f"{sequence}_{len(sequence)}".encode()).hexdigest()


def write_h5(path: Path, entries: Entries, **settings: Any) -> Path:
    """As biotrainer writes them: by hash, with the name of each as an attribute."""
    with h5py.File(path, "w") as file:
        for number, (sequence, values) in enumerate(entries.items()):
            key = biotrainer_hash(sequence)
            file.create_dataset(key, data=values, **{"compression": "gzip", "chunks": True, **settings})
            file[key].attrs["original_id"] = f"Seq{number}"
    return path


def write_parquet(path: Path, entries: Entries, **settings: Any) -> Path:
    """A column of sequences and one of lists."""
    table = pa.table({"sequence": list(entries), "embedding": [values.tolist() for values in entries.values()]})
    if all(values.dtype == np.float32 for values in entries.values()):
        kind = pa.list_(pa.float32())
        kind = kind if next(iter(entries.values())).ndim == 1 else pa.list_(kind)
        table = table.set_column(1, "embedding", table.column("embedding").cast(kind))
    pq.write_table(table, path, **settings)
    return path


def write_table(path: Path, entries: Entries) -> Path:
    """An .npz file of keys and one matrix."""
    np.savez(path, keys=np.array(list(entries)), embeddings=np.stack(list(entries.values())))
    return path


def write_embeddings(path: Path, entries: Entries) -> Path:
    """Write a file of the format that its name says."""
    if path.suffix == ".h5":
        return write_h5(path, entries)
    if path.suffix == ".parquet":
        return write_parquet(path, entries)
    if path.suffix == ".safetensors":
        save_file({key: np.ascontiguousarray(values) for key, values in entries.items()}, path)
    else:
        np.savez(path, **dict(entries))
    return path
