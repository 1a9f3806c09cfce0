"""The state of a run: written, cheaply and whole, and read by the run that goes on from it."""

import contextlib
import hashlib
import json
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch

from datasets.common.files import file_hash, link, replaced, write_text
from datasets.task import Announce
from search.training.checkpoint.files import (
    FOLDER,
    MANIFEST,
    STATE,
    Unusable,
    kept_name,
    names_in,
    read_manifest,
    remove_state,
    usable,
    write_manifest,
)

MIN_INTERVAL_S = 2.0
"""A run that is shorter leaves no state: it is run again as quickly."""
_MAX_SHARE = 0.05  # of the time may go into writing states
BEGUN_FOLD = "fold{}.pt"


class Pace:
    """When to write a state: the last one has to be old enough, by the clock and by what writing it has cost."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._cost_s = 0.0

    def is_due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() - self._last >= max(MIN_INTERVAL_S, self._cost_s / _MAX_SHARE)

    def wrote(self, cost_s: float) -> None:
        """One was written just now, in so many seconds."""
        self._last, self._cost_s = time.monotonic(), cost_s


class StateWriter:
    """Writes the state of a run into its folder, each instead of the one before.

    Args:
        directory: The run's.
        announce: Told, once, if the state cannot be written: the run itself goes on.
    """

    def __init__(self, directory: Path, announce: Announce) -> None:
        self._folder = directory / FOLDER
        self._announce = announce
        self._pace = Pace()
        self._is_possible = True
        self._has_failed = False
        self._hashes: dict[tuple[int, ...], str] = {}

    def is_due(self) -> bool:
        """Whether the last state is old enough."""
        return self._is_possible and self._pace.is_due()

    def write(
        self,
        state: Mapping[str, Any],
        weights: Mapping[str, Path],
        about: Mapping[str, Any],
        begun: Mapping[int, Path] = MappingProxyType({}),
    ) -> None:
        """Write a state of tensors and plain values; a reader finds it whole, or the one before.

        Args:
            state: Of the run.
            weights: Files, by the names that they have in a run's folder.
            about: What has to be equal where the state is used.
            begun: Files with the states of folds that train side by side, by their numbers.
        """
        started = time.monotonic()
        try:
            self._write(state, weights, about, begun)
        except (OSError, RuntimeError) as error:
            self._fail(getattr(error, "strerror", None) or str(error))  # disks are tidied up: the next may succeed
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._is_possible = False
            self._fail(str(error))
        self._pace.wrote(time.monotonic() - started)

    def _fail(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._announce(f"The state of the run cannot be kept in {self._folder}: {reason}. It trains on without.")

    def _write(
        self,
        state: Mapping[str, Any],
        weights: Mapping[str, Path],
        about: Mapping[str, Any],
        begun: Mapping[int, Path],
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        hashes, begun_hashes = dict[str, str](), dict[str, str]()
        linked = [(name, path, hashes) for name, path in weights.items()]
        linked += [(BEGUN_FOLD.format(number), path, begun_hashes) for number, path in begun.items()]
        for name, path, found in linked:
            found[name] = self._hash(path)
            link(path, self._folder / kept_name(name, found[name]))
        state_hash = self._save({**state, "begun": dict.fromkeys(begun)})
        files = {"state": state_hash, "weights": hashes, "begun": begun_hashes}
        write_manifest(self._folder / MANIFEST, about, files)
        named = {MANIFEST, *names_in(files)}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _save(self, state: Mapping[str, Any]) -> str:
        """Write the state under a name that has its hash, and return that."""
        with replaced(self._folder / STATE) as beside, beside.open("wb") as file:
            hashing = _Hashing(file)
            try:
                torch.save(dict(state), hashing)  # type: ignore[arg-type]  # all that it asks of a file
            except RuntimeError as error:
                raise hashing.error or error from None
        state_hash = hashing.sha256.hexdigest()
        (self._folder / STATE).rename(self._folder / kept_name(STATE, state_hash))
        return state_hash

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


def read_state(directory: Path, about: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The state that a run left in its folder; `about` is asked what it must have been written for.

    Its `begun` has the state of each fold that was begun, by its number.

    Raises:
        Unusable: There is none, it is damaged, or it belongs to another run.
    """
    folder = directory / FOLDER
    with usable():
        manifest = read_manifest(folder / MANIFEST, about())
        for name in names_in(manifest):
            if Path(name).name != name or name.split(".")[-2] != file_hash(folder / name):
                raise Unusable(f"its file {name} is damaged")
        path = folder / kept_name(STATE, manifest["state"])
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for number in state["begun"]:
            name = BEGUN_FOLD.format(number)
            path = folder / kept_name(name, manifest["begun"][name])
            state["begun"][number] = torch.load(path, map_location="cpu", weights_only=True)
        return state


def take_over(before: Path, directory: Path) -> None:
    """Move a state that can be read, and its weights, from one run's folder to another's, or leave both as they are.

    Both may be the same folder: then the weights alone are put in place.

    Raises:
        OSError: The files cannot be put there.
    """
    old, new = before / FOLDER, directory / FOLDER
    text = (old / MANIFEST).read_text(encoding="utf-8")
    manifest = json.loads(text)
    is_elsewhere = old.resolve() != new.resolve()
    if is_elsewhere:
        new.mkdir(parents=True, exist_ok=True)
        for name in names_in(manifest):
            link(old / name, new / name)
        write_text(new / MANIFEST, text)
    for name, its_hash in manifest["weights"].items():
        link(new / kept_name(name, its_hash), directory / name)
    if is_elsewhere:
        remove_state(before)


def bring_logs(before: Path, directory: Path) -> None:
    """Put the logs of the interrupted parts beside those of the part that follows: `logs/fold0.0`, `logs/fold0.1`, ...

    A logger begins its files anew. Epochs after the state stand in both.
    """
    if before.resolve() == directory.resolve():
        return
    with contextlib.suppress(OSError):  # nothing depends on them
        names = sorted(path.name for path in (before / "logs").iterdir())
        for name in names:
            n_parts = sum(other.startswith(f"{name}.") for other in names)
            target = directory / "logs" / (name if "." in name else f"{name}.{n_parts}")
            target.mkdir(parents=True, exist_ok=True)
            for path in (before / "logs" / name).iterdir():
                link(path, target / path.name)
