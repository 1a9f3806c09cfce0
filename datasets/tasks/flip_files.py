"""Find one of FLIP's files on this machine, or download it and check what it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.fetch import DownloadError, fetch_once
from datasets.task import FoundSource

FLIP_COMMIT = "62cace8735f5610e2743cf06ce0f944b37fffaa6"
URL = "https://raw.githubusercontent.com/J-SNACKKB/FLIP/{commit}/splits/{dataset}/splits.zip"
# The git blob ids of `splits/<dataset>/splits.zip` at the commit that is downloaded.
GIT_BLOBS = {
    "gb1": "5086ae0e4a5f397672feb39b04d71fe8f5d34ae9",
    "aav": "f7a2daee64e0ce9d0de6047fc5fb073f57603dd3",
    "meltome": "94b82305ccf0ca8a979771ae6edfd27824fdf2d4",
}
# FLIP's own checkout has `splits/`; the others are how people lay out a data folder.
_LAYOUTS = ("flip/{dataset}/splits.zip", "splits/{dataset}/splits.zip", "{dataset}/splits.zip")


def find_file(
    dataset: str,
    *,
    data_dir: Path | None,
    announce: Callable[[str], None],
    timeout_s: float | None = None,
    replaces: bool = False,
) -> FoundSource:
    """Find ``splits.zip`` of a dataset in `data_dir`, $FLIPSEARCH_DATA, ``data/`` or the user's cache.

    If it stands in none of them it is downloaded from FLIP into the cache and checked. `timeout_s` limits the
    whole download; without it only each wait for the network is limited. `replaces`: where the download of before was
    damaged in the cache, it is downloaded anew; files elsewhere are the user's. A UserError names the places and
    what to do.
    """
    folders = folders_of(data_dir)
    cached = folders[-1] / _LAYOUTS[0].format(dataset=dataset)
    found = find_local_file(dataset, data_dir=data_dir)
    if found is not None and (found.official or found.path != cached or not replaces):
        return found
    if found is not None:
        announce(f"{cached} is {found.label}, since its git blob is {found.version}: it is downloaded anew.")
    url = URL.format(commit=FLIP_COMMIT, dataset=dataset)

    def check(path: Path) -> None:
        blob = git_blob_id(path)
        if blob != GIT_BLOBS[dataset]:
            raise DownloadError(f"what came is not FLIP's file: its git blob is {blob}, expected {GIT_BLOBS[dataset]}")

    fetch_once(
        url,
        cached,
        what=f"FLIP's {dataset} file",
        ways_out=f"it was looked for in {', '.join(map(str, folders))}; download it from {url} yourself and name its "
        f"folder (as <folder>/{dataset}/splits.zip) with --data-dir or $FLIPSEARCH_DATA.",
        work_dir=cached.parent,
        check=check,
        announce=announce,
        timeout_s=timeout_s,
        replaces=replaces,
    )
    return _identify(dataset, cached)


def find_local_file(dataset: str, *, data_dir: Path | None) -> FoundSource | None:
    """As `find_file`, but what is not on this machine is None: nothing is downloaded."""
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"The data folder {data_dir} does not exist; name an existing one with --data-dir.")
    for folder in folders_of(data_dir):
        for layout in _LAYOUTS:
            path = folder / layout.format(dataset=dataset)
            if path.is_file():
                return _identify(dataset, path)
    return None


def folders_of(data_dir: Path | None) -> list[Path]:
    """The folders in which files are looked for, in order; the last is the user's cache, for downloads."""
    named = (data_dir, os.environ.get("FLIPSEARCH_DATA"), "data")
    return [*(Path(folder) for folder in named if folder), cache_folder()]


def cache_folder() -> Path:
    """The user's cache, which all checkouts share; it begins with ~ where nobody knows the user's home."""
    import pooch  # type: ignore[import-untyped]

    try:
        return Path(pooch.os_cache("flipsearch"))
    except RuntimeError:  # in a container, $HOME may be unset and the user have no entry in passwd
        return Path("~/.cache/flipsearch")


def _identify(dataset: str, path: Path) -> FoundSource:
    try:
        blob = git_blob_id(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    official = blob == GIT_BLOBS.get(dataset)
    label = "FLIP's file" if official else "not FLIP's file"
    return FoundSource(path=path, version=blob, official=official, label=label)


def git_blob_id(path: Path) -> str:
    """Return what ``git hash-object`` prints for the file (40 hexadecimal digits)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
