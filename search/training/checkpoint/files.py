"""How the state of an interrupted run stands on disk.

A folder `state` in the run's own holds the state, the weights that the run would be judged by if it ended there,
and a manifest that names both by their hash and says what run they belong to. The manifest is moved into place
last: at any moment the folder holds one whole state or none.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "state"
MANIFEST = "manifest.json"
STATE = "training.pt"
FORMAT = 4  # counts up with every change of what a state holds


def has_state(directory: Path) -> bool:
    """Whether a run left a state in its folder, of whatever worth."""
    return (directory / FOLDER / MANIFEST).is_file()


def remove_state(directory: Path) -> None:
    """Remove the state from a run's folder, where there is one."""
    with contextlib.suppress(OSError):  # first, so that no half of a state is believed
        (directory / FOLDER / MANIFEST).unlink()
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def kept_name(name: str, its_hash: str) -> str:
    """`fold0.<hash>.safetensors`: a file that is replaced by another does not lose its place to it."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{its_hash}.{ending}"


def names_in(manifest: Mapping[str, Any]) -> list[str]:
    """The files of a state, without the manifest."""
    weights = [kept_name(name, its_hash) for name, its_hash in manifest["weights"].items()]
    return [*weights, kept_name(STATE, manifest["state"])]
