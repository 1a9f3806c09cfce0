"""The doctor on what a search reads: FLIP's files and pretrained weights. Nothing is downloaded."""

import os
from collections.abc import Iterator
from pathlib import Path

from datasets.common.errors import UserError
from datasets.task import FoundSource
from datasets.tasks.flip_files import GIT_BLOBS, cache_folder, find_local_file
from datasets.tasks.registry import find_task
from models.backbones.names import BACKBONES
from search.doctor.finding import Diagnosis, ok, problem, warning

_MIB = 1 << 20


def check_data(task: str | None, data_dir: Path | None) -> Iterator[Diagnosis]:
    """Which of FLIP's files are here; of one task alone, if it is named, and then its split is read too.

    Raises:
        UserError: `data_dir` does not exist.
    """
    datasets = [find_task(task).dataset] if task else list(GIT_BLOBS)
    for dataset in datasets:
        if dataset not in GIT_BLOBS:
            yield ok("data", f"{dataset} needs no file")
            continue
        try:
            found = find_local_file(dataset, data_dir=data_dir)
        except UserError as error:
            if data_dir is not None and not data_dir.is_dir():
                raise
            yield problem("data", str(error).rstrip("."))
            continue
        if found is None:
            about = f"{dataset} is not on this machine: the first search on it downloads it"
            remedy = "without a network, name its folder with --data-dir or $FLIPSEARCH_DATA"
            yield warning("data", about, remedy) if task else ok("data", about)
        elif found.official:
            yield ok("data", f"{dataset}: {found.label}, {found.path}")
        else:
            remedy = "every result on it says so; remove it to have FLIP's own downloaded"
            yield warning("data", f"{dataset}: {found.label}, {found.path}", remedy)
            if task:
                yield from _check_split(task, found)
    yield from _check_leftovers("data", cache_folder())


def _check_split(task: str, located: FoundSource) -> Iterator[Diagnosis]:
    """A file that is not FLIP's may lack the split; FLIP's own has it."""
    try:
        find_task(task).source.read(located, find_task(task).split)
    except UserError as error:
        yield problem("data", str(error).rstrip("."))


def check_weights_dir(weights_dir: Path | None) -> Iterator[Diagnosis]:
    """Which checkpoints of protein language models are here."""
    folders = [folder for folder in (weights_dir, _hub_folder()) if folder is not None]
    found = {name: folder for folder in reversed(folders) for name in BACKBONES if (folder / f"{name}.pt").is_file()}
    for name, folder in found.items():
        path = folder / f"{name}.pt"
        if path.stat().st_size < _MIB:
            about = f"{path} has {path.stat().st_size:,} bytes, so it is no checkpoint"
            yield problem("weights", about, "remove it, or name another folder")
    listed = ", ".join(f"{name} in {found[name]}" for name in BACKBONES if name in found)
    where = " and ".join(map(str, folders))
    yield ok("weights", listed or f"none in {where}: a search with a language model downloads what it needs")
    yield from _check_leftovers("weights", _hub_folder())


def _hub_folder() -> Path:
    """Where torch.hub keeps checkpoints, by the same rules; importing torch to ask takes seconds."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    # Unlike Path.expanduser this leaves the ~ of a user without a home, as torch does.
    home = os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(cache, "torch")))
    return Path(home) / "hub" / "checkpoints"


def _check_leftovers(check: str, folder: Path) -> Iterator[Diagnosis]:
    """What a killed download left; the next one of the same file clears it away."""
    for partial in sorted(folder.glob("**/.partial")) if folder.is_dir() else ():
        n_bytes = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        about = f"{partial} holds {n_bytes / _MIB:,.0f} MiB of a download that runs, or was interrupted"
        yield warning(check, about, "if none runs, remove it")
