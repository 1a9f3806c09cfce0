"""Download one of FLIP's files, whole and checked or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from datasets.common.fetch import DownloadError, fetch_once

FLIP_COMMIT = "62cace8735f5610e2743cf06ce0f944b37fffaa6"
URL = "https://raw.githubusercontent.com/J-SNACKKB/FLIP/{commit}/splits/{dataset}/splits.zip"


def download(
    dataset: str,
    final: Path,
    git_blob: str,
    *,
    looked: str,
    announce: Callable[[str], None],
    timeout_s: float | None,
) -> None:
    """Make `final` FLIP's file of a dataset, fetched by whichever process comes first.

    The content has to have the id `git_blob`. `timeout_s` limits the whole of it, waiting for another process
    included; None leaves only each wait for the network limited. A UserError gives the reason, `looked` (the
    places where the file was not), and the ways out.
    """

    def check(path: Path) -> None:
        blob = git_blob_id(path)
        if blob != git_blob:
            raise DownloadError(f"what came is not FLIP's file: its git blob is {blob}, expected {git_blob}")

    url = URL.format(commit=FLIP_COMMIT, dataset=dataset)
    ways_out = (
        f"{looked}; download it from {url} yourself and name its folder (as <folder>/{dataset}/splits.zip) "
        "with --data-dir or $FLIPSEARCH_DATA."
    )
    fetch_once(
        url,
        final,
        what=f"FLIP's {dataset} file",
        ways_out=ways_out,
        work_dir=final.parent,
        check=check,
        announce=announce,
        timeout_s=timeout_s,
    )


def git_blob_id(path: Path) -> str:
    """Return what ``git hash-object`` prints for the file (40 hexadecimal digits)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
