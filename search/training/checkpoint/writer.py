"""Writing the state of a run, cheaply and whole."""

import hashlib
import json
import os
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from datasets.common.files import file_hash, link, write_text
from datasets.task import Announce
from search.config.nested import digest
from search.training.checkpoint.files import FOLDER, FORMAT, MANIFEST, STATE, kept_name, names_in

MIN_INTERVAL_S = 2.0
"""A run that is shorter leaves no state: it is run again as quickly."""
_MAX_SHARE = 0.05  # of the time may go into writing states


class StateWriter:
    """Writes the state of a run into its folder, each instead of the one before.

    Args:
        directory: The run's.
        announce: Told, once, if the state cannot be written: the run itself goes on.
    """

    def __init__(self, directory: Path, announce: Announce) -> None:
        self._folder = directory / FOLDER
        self._announce = announce
        self._last = time.monotonic()
        self._cost_s = 0.0
        self._is_possible = True
        self._has_failed = False
        self._hashes: dict[tuple[int, ...], str] = {}

    def is_due(self) -> bool:
        """Whether the last state is old enough, by the clock and by what writing it has cost."""
        age_s = time.monotonic() - self._last
        return self._is_possible and age_s >= max(MIN_INTERVAL_S, self._cost_s / _MAX_SHARE)

    def write(self, state: Mapping[str, Any], weights: Mapping[str, Path], about: Mapping[str, Any]) -> None:
        """Write a state of tensors and plain values; a reader finds it whole, or the one before.

        Args:
            state: Of the run.
            weights: Files, by the names that they have in a run's folder.
            about: What has to be equal where the state is used.
        """
        started = time.monotonic()
        try:
            self._write(state, weights, about)
        except (OSError, RuntimeError) as error:
            self._fail(getattr(error, "strerror", None) or str(error))  # disks are tidied up: the next may succeed
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._is_possible = False
            self._fail(str(error))
        self._last = time.monotonic()
        self._cost_s = self._last - started

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._announce(f"The state of the run cannot be kept in {self._folder}: {reason}. It trains on without.")

    def _write(self, state: Mapping[str, Any], weights: Mapping[str, Path], about: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        hashes = {name: self._hash(path) for name, path in weights.items()}
        for name, path in weights.items():
            link(path, self._folder / kept_name(name, hashes[name]))
        state_hash = self._save(state)
        manifest = {"format": FORMAT, "about": dict(about), "state": state_hash, "weights": hashes}
        write_text(self._folder / MANIFEST, json.dumps({**manifest, "checksum": digest(manifest)}))
        named = {MANIFEST, *names_in(manifest)}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _save(self, state: Mapping[str, Any]) -> str:

        beside = self._folder / f".state.{os.getpid()}"
        try:
            with beside.open("wb") as file:
                hashing = _Hashing(file)
                try:
                    torch.save(dict(state), hashing)  # type: ignore[arg-type]  # all that it asks of a file
                except RuntimeError as error:
                    raise hashing.error or error from None
            state_hash = hashing.sha256.hexdigest()
            os.replace(beside, self._folder / kept_name(STATE, state_hash))
            return state_hash
        finally:
            beside.unlink(missing_ok=True)

    def _hash(self, path: Path) -> str:
        """The hash of a weights file, computed once: most states have the best weights of the one before."""
        status = path.stat()
        key = (status.st_ino, status.st_mtime_ns, status.st_size)
        if key not in self._hashes:
            self._hashes[key] = file_hash(path)
        return self._hashes[key]


class _Hashing:
    """A file that knows the hash of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None  # torch does not pass it on
        self._file = file

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
