"""Open a file of embeddings: its content says of which format it is."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from datasets.common.errors import UserError
from datasets.embeddings.file import EmbeddingFile, reading

FORMATS = ".h5, .npz, .safetensors or .parquet"


@contextlib.contextmanager
def opened_embeddings(path: Path) -> Iterator[EmbeddingFile]:
    """Open a file of embeddings; its content decides the format.

    Raises:
        UserError: There is no such file, it is of another format, damaged, or holds something else.
    """
    start = _start(path)
    with reading(path):
        file = _open(path, start)
    try:
        if not file.keys:
            raise file.refuse("it has no entries", "expected an embedding of each sequence")
        yield file
    finally:
        file.close()


def _start(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"The embeddings {path} are a folder, a pipe or a device and no file: name a file.")
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The embeddings {path} cannot be read ({reason}): name the file where it is now.") from None
    if not start:
        raise UserError(f"The embeddings {path} are an empty file: expected {FORMATS}.")
    return start


def _open(path: Path, start: bytes) -> EmbeddingFile:
    if start.startswith(b"PK\x03\x04"):
        from datasets.embeddings.npz import NpzFile

        return NpzFile(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        from datasets.embeddings.hdf5 import Hdf5File

        return Hdf5File(path)
    if start.startswith(b"PAR1"):
        from datasets.embeddings.parquet import ParquetFile

        return ParquetFile(path)
    if start[8:9] == b"{":
        from datasets.embeddings.tensors import TensorFile

        return TensorFile(path)
    raise UserError(f"{path} is no file of embeddings: expected {FORMATS} (see docs/embeddings.md).")
