"""The state of a run on disk, so that one that was interrupted goes on instead of beginning anew.

A folder `state` in the run's own holds the state, the weights that the run would be judged by if it ended there,
and a manifest that names both by their hash and says what run they belong to. The manifest is moved into place
last: at any moment the folder holds one whole state or none.
"""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from datasets.task import Announce
from search.trees import difference, digest

FOLDER = "state"
MIN_INTERVAL_S = 2.0
"""A run that is shorter leaves no state: it is run again as quickly."""
_MAX_SHARE = 0.05  # of the time may go into writing states
_MANIFEST = "manifest.json"
_FORMAT = 1  # counts up with every change of what a state holds


class Unusable(Exception):
    """There is no state that this run could go on from; the message says why."""


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
        except (OSError, RuntimeError) as error:  # torch does not always pass the system's error on
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
            _link(path, self._folder / _kept_name(name, hashes[name]))
        state_hash = self._save(state)
        manifest = {"format": _FORMAT, "about": dict(about), "state": state_hash, "weights": hashes}
        _write_text(self._folder / _MANIFEST, json.dumps({**manifest, "checksum": digest(manifest)}))
        named = {_MANIFEST, *_names(manifest)}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _save(self, state: Mapping[str, Any]) -> str:
        import torch

        beside = self._folder / f".state.{os.getpid()}"
        try:
            with beside.open("wb") as file:
                hashing = _Hashing(file)
                torch.save(dict(state), hashing)  # type: ignore[arg-type]  # all that it asks of a file
            state_hash = hashing.sha256.hexdigest()
            os.replace(beside, self._folder / _kept_name(_STATE, state_hash))
            return state_hash
        finally:
            beside.unlink(missing_ok=True)

    def _hash(self, path: Path) -> str:
        """The hash of a weights file, computed once: most states have the best weights of the one before."""
        status = path.stat()
        key = (status.st_ino, status.st_mtime_ns, status.st_size)
        if key not in self._hashes:
            self._hashes[key] = _file_hash(path)
        return self._hashes[key]


def has_state(directory: Path) -> bool:
    """Whether a run left a state in its folder, of whatever worth."""
    return (directory / FOLDER / _MANIFEST).is_file()


def read_state(directory: Path, about: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The state that a run left in its folder; `about` is asked what it must have been written for.

    Raises:
        Unusable: There is none, it is damaged, or it belongs to another run.
    """
    import torch  # as late as this: workers, which ask `has_state` alone, train nothing themselves

    folder = directory / FOLDER
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
        if manifest["format"] != _FORMAT or checksum != digest(manifest):
            raise Unusable("it is damaged, or of another version of flipsearch")
        differences = difference(manifest["about"], json.loads(json.dumps(about())))
        if differences:
            raise Unusable(f"it belongs to another run ({'; '.join(differences)})")
        for name in _names(manifest):
            if Path(name).name != name or name.split(".")[-2] != _file_hash(folder / name):
                raise Unusable(f"its file {name} is damaged")
        state: dict[str, Any] = torch.load(
            folder / _kept_name(_STATE, manifest["state"]), map_location="cpu", weights_only=True
        )
        return state
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Unusable(f"it is damaged ({type(error).__name__})") from None


def take_over(before: Path, directory: Path) -> None:
    """Move a state that can be read, and its weights, from one run's folder to another's, or leave both as they are.

    Both may be the same folder: then the weights alone are put in place.

    Raises:
        OSError: The files cannot be put there.
    """
    old, new = before / FOLDER, directory / FOLDER
    text = (old / _MANIFEST).read_text(encoding="utf-8")
    manifest = json.loads(text)
    is_elsewhere = old.resolve() != new.resolve()
    if is_elsewhere:
        new.mkdir(parents=True, exist_ok=True)
        for name in _names(manifest):
            _link(old / name, new / name)
        _write_text(new / _MANIFEST, text)
    for name, its_hash in manifest["weights"].items():
        _link(new / _kept_name(name, its_hash), directory / name)
    if is_elsewhere:
        remove_state(before)


def remove_state(directory: Path) -> None:
    """Remove the state from a run's folder, where there is one."""
    with contextlib.suppress(OSError):  # first, so that no half of a state is believed
        (directory / FOLDER / _MANIFEST).unlink()
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


_STATE = "training.pt"


def _kept_name(name: str, its_hash: str) -> str:
    """`fold0.<hash>.safetensors`: a file that is replaced by another does not lose its place to it."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{its_hash}.{ending}"


def _names(manifest: Mapping[str, Any]) -> list[str]:
    weights = [_kept_name(name, its_hash) for name, its_hash in manifest["weights"].items()]
    return [*weights, _kept_name(_STATE, manifest["state"])]


class _Hashing:
    """A file that knows the hash of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    """Let `target` be the file that `source` is now; files of weights are replaced, never changed."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        try:
            os.link(source, beside)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links, or another one
            shutil.copyfile(source, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)  # of two links to one file none is replaced


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
