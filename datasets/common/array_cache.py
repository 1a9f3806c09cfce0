"""Arrays that took long to compute, kept in a folder; what is broken there is made again."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from datasets.common.files import replaced

Arrays = dict[str, NDArray[Any]]


class ArrayCache:
    """A folder of files of arrays, each checked when it is read; one that is broken is made again.

    Args:
        folder: Made when it is needed.
        what: Of what the arrays are, in sentences.
        announce: Told of a file that is broken, and of a folder that cannot be written.
    """

    def __init__(self, folder: Path, what: str, announce: Callable[[str], None]) -> None:
        self._folder, self._what, self._announce = folder, what, announce
        self._is_unwritable = False

    def get(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays that are kept under a name, or compute and keep them; one process computes, others wait."""
        if found := self.read(name):
            return found
        with self._lock(name) as is_writable:
            found = self.read(name)
            if found is None:
                found = compute()
                if is_writable:
                    self._write(name, found)
            return found

    def update(self, name: str, change: Callable[[Arrays | None], Arrays]) -> None:
        """Keep what `change` makes of the arrays that are kept under a name, None if there are none."""
        with self._lock(name) as is_writable:
            if is_writable:
                self._write(name, change(self.read(name)))

    def read(self, name: str) -> Arrays | None:
        """Return the arrays that are kept under a name, None if there are none, or none that are whole."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
                if file.metadata()["checksum"] == _checksum(arrays):
                    return arrays
                reason = "its checksum differs"
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            reason = str(error)
        self._announce(f"The cached {self._what} in {path} are broken ({reason}): they are made again.")
        return None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[bool]:
        """Hold the lock of a name; whether there is one, and so a folder that can be written."""
        lock = filelock.FileLock(self._path(name).with_suffix(".lock"))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            self._say_unwritable(error)
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _write(self, name: str, arrays: Arrays) -> None:
        try:
            with replaced(self._path(name)) as beside:
                beside.write_bytes(save(arrays, metadata={"checksum": _checksum(arrays)}))
        except OSError as error:
            self._say_unwritable(error)

    def _say_unwritable(self, error: OSError) -> None:
        if self._is_unwritable:
            return
        self._is_unwritable = True
        self._announce(
            f"The {self._what} cannot be kept in {self._folder} ({error.strerror or error}): they are made anew each "
            "time."
        )


def _checksum(arrays: Arrays) -> str:
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).data, checksum)
    return str(checksum)
