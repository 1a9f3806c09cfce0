"""Going on from the state that an interrupted run left, instead of beginning anew."""

import contextlib
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from datasets.common.files import file_hash, link, write_text
from search.config.nested import difference, digest
from search.training.checkpoint.files import (
    FOLDER,
    FORMAT,
    MANIFEST,
    STATE,
    kept_name,
    names_in,
    remove_state,
)


class Unusable(Exception):
    """There is no state that this run could go on from; the message says why."""


def read_state(directory: Path, about: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The state that a run left in its folder; `about` is asked what it must have been written for.

    Raises:
        Unusable: There is none, it is damaged, or it belongs to another run.
    """
    folder = directory / FOLDER
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
        if manifest["format"] != FORMAT or checksum != digest(manifest):
            raise Unusable("it is damaged, or of another version of flipsearch")
        differences = difference(manifest["about"], json.loads(json.dumps(about())))
        if differences:
            raise Unusable(f"it belongs to another run ({'; '.join(differences)})")
        for name in names_in(manifest):
            if Path(name).name != name or name.split(".")[-2] != file_hash(folder / name):
                raise Unusable(f"its file {name} is damaged")
        state: dict[str, Any] = torch.load(
            folder / kept_name(STATE, manifest["state"]), map_location="cpu", weights_only=True
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
