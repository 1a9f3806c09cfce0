"""Trained runs of a confirmation, kept until all of it is done: one that was interrupted goes on from there."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datasets.common.errors import UserError
from datasets.common.files import file_hash
from search.training.checkpoint.files import (
    Unusable,
    has_state,
    read_manifest,
    remove_state,
    usable,
    write_manifest,
)

_DONE = "done.json"


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run's weights, and the device that it was trained on."""

    weights: Path
    device: str


@contextlib.contextmanager
def refused_if_unwritable(folder: Path) -> Iterator[None]:
    """Around what makes a folder below the runs folder, and its lock: a UserError where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be written ({error.strerror}): name another with --runs-dir."
        ) from None


@contextlib.contextmanager
def folder_of(parent: Path, name: str) -> Iterator[Path]:
    """The folder of one confirmation, which nobody else uses meanwhile and which is removed if nothing goes wrong.

    Raises:
        UserError: Another process uses it, or it cannot be written.
    """
    folder = parent / name
    lock = FileLock(parent / f".{name}.lock")  # beside the folder, which is removed while the lock is held
    with refused_if_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            what = f"Another process confirms the same experiment in {folder}"
            raise UserError(f"{what}: wait until it has ended.") from None
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def keep_run(directory: Path, run: KeptRun, about: Mapping[str, Any]) -> None:
    """Note that the run in `directory` is complete; `about` is all that its numbers depend on."""
    with contextlib.suppress(OSError):  # of a full disk: it would be trained again, no more
        files = {"weights": run.weights.name, "hash": file_hash(run.weights), "device": run.device}
        write_manifest(directory / _DONE, about, files)
        remove_state(directory)


def kept_run(directory: Path, about: Mapping[str, Any]) -> KeptRun | None:
    """The complete run in `directory`, if there is one whose numbers depend on the same."""
    with contextlib.suppress(Unusable), usable():
        done = read_manifest(directory / _DONE, about)
        weights = directory / done["weights"]
        if done["hash"] == file_hash(weights):
            return KeptRun(weights=weights, device=done["device"])
    return None


def begin_again(directory: Path) -> Path | None:
    """Make way for a run in `directory`; where one was interrupted, its folder is moved aside to be resumed from.

    Raises:
        UserError: It cannot be moved.
    """
    before = directory.with_name(f"{directory.name}.before")
    if has_state(directory):
        shutil.rmtree(before, ignore_errors=True)
        try:
            directory.rename(before)
        except OSError as error:
            raise UserError(f"The folder {directory} cannot be moved ({error.strerror}): remove it.") from None
    shutil.rmtree(directory, ignore_errors=True)
    return before if has_state(before) else None
