"""How the state of an interrupted run stands on disk.

A folder `state` in the run's own holds the state, the weights that the run would be judged by if it ended there,
and a manifest that names both by their hash and says what run they belong to. The manifest is moved into place
last: at any moment the folder holds one whole state or none.
"""

import contextlib
import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.common.files import write_text
from search.config.nested import difference, digest

FOLDER = "state"
BEGUN = "begun"
"""The folder, in the run's own, of the states of folds that train side by side, until they are part of the run's."""
MANIFEST = "manifest.json"
STATE = "training.pt"
FORMAT = 5  # counts up with every change of what a state holds


class Unusable(Exception):
    """There is nothing that this run could go on from; the message says why."""


def write_manifest(path: Path, about: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    """Say which files belong to a run; `about` is all that its numbers depend on."""
    manifest = {"format": FORMAT, "about": dict(about), **files}
    write_text(path, json.dumps({**manifest, "checksum": digest(manifest)}))


def read_manifest(path: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """What `write_manifest` wrote for a run of which the same is true; to be called inside `usable`.

    Raises:
        Unusable: It was changed, or is of another run or version.
    """
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    checksum = manifest.pop("checksum")
    if manifest["format"] != FORMAT or checksum != digest(manifest):
        raise Unusable("it is damaged, or of another version of flipsearch")
    wanted = json.loads(json.dumps(about))  # as it stands in the file
    if manifest["about"] != wanted:
        raise Unusable(f"it belongs to another run ({'; '.join(difference(manifest['about'], wanted))})")
    return manifest


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Around the reading of what an earlier process left: whatever goes wrong makes it unusable.

    Raises:
        Unusable: Instead of the errors of files that are missing or damaged.
    """
    try:
        yield
    except OSError as error:
        raise Unusable(f"it cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Unusable(f"it is damaged ({type(error).__name__})") from None


def has_state(directory: Path) -> bool:
    """Whether a run left a state in its folder, of whatever worth."""
    return (directory / FOLDER / MANIFEST).is_file()


def remove_state(directory: Path) -> None:
    """Remove the state from a run's folder, where there is one."""
    with contextlib.suppress(OSError):  # first, so that no half of a state is believed
        (directory / FOLDER / MANIFEST).unlink()
    for name in (FOLDER, BEGUN):
        shutil.rmtree(directory / name, ignore_errors=True)


def kept_name(name: str, its_hash: str) -> str:
    """`fold0.<hash>.safetensors`: a file that is replaced by another does not lose its place to it."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.{its_hash}.{ending}"


def names_in(manifest: Mapping[str, Any]) -> list[str]:
    """The files of a state, without the manifest."""
    files = {**manifest["weights"], **manifest["begun"], STATE: manifest["state"]}
    return [kept_name(name, its_hash) for name, its_hash in files.items()]
