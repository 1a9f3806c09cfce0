"""Download one of FLIP's files, whole and checked or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets.errors import UserError

FLIP_COMMIT = "62cace8735f5610e2743cf06ce0f944b37fffaa6"
URL = "https://raw.githubusercontent.com/J-SNACKKB/FLIP/{commit}/splits/{dataset}/splits.zip"
_NETWORK_TIMEOUT_S = 30.0


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
    import filelock

    url = URL.format(commit=FLIP_COMMIT, dataset=dataset)
    ways_out = (
        f"{looked}; download it from {url} yourself and name its folder (as <folder>/{dataset}/splits.zip) "
        "with --data-dir or $FLIPSEARCH_DATA."
    )
    start = time.monotonic()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(final.parent / ".lock", timeout=-1 if timeout_s is None else timeout_s):
            if not final.is_file():
                announce(f"Downloading FLIP's {dataset} file from {url}.")
                _fetch(url, final, git_blob, start=start, timeout_s=timeout_s)
    except filelock.Timeout:
        raise UserError(
            f"Another process has been downloading FLIP's {dataset} file for {timeout_s:g} s; {ways_out}"
        ) from None
    except _DownloadError as error:
        raise UserError(f"FLIP's {dataset} file could not be downloaded: {error}; {ways_out}") from error
    except OSError as error:
        raise UserError(
            f"FLIP's {dataset} file could not be kept in {final.parent} ({error.strerror}); {ways_out}"
        ) from error


class _DownloadError(Exception):
    """The reason why there is no file."""


def _fetch(url: str, final: Path, git_blob: str, *, start: float, timeout_s: float | None) -> None:
    """Download into a folder beside `final`, check the content, and move it there in one step.

    The caller holds the lock, so a folder that a killed process left behind is nobody's.
    """
    partial = final.parent / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        transfer = _Transfer(url, partial / final.name)
        if not transfer.wait(None if timeout_s is None else max(start + timeout_s - time.monotonic(), 0.0)):
            raise _DownloadError(f"it took longer than {timeout_s:g} s")
        if transfer.error is not None:
            raise _DownloadError(_one_line(transfer.error)) from transfer.error
        blob = git_blob_id(partial / final.name)
        if blob != git_blob:
            raise _DownloadError(f"what came is not FLIP's file (git blob {blob}, expected {git_blob})")
        os.replace(partial / final.name, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Transfer:
    """A download in a daemon thread, because name lookups and slow servers respect no time limit.

    It stands in for the progress bar as pooch sees it, which is where an abandoned download is stopped.
    """

    total = 0

    def __init__(self, url: str, path: Path) -> None:
        self.error: Exception | None = None
        self._abandoned = False
        self._bar = _progress_bar()
        self._thread = threading.Thread(target=self._run, args=(url, path), daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for the end of the download; False if it was abandoned because of the time."""
        try:
            self._thread.join(timeout_s)
        finally:
            self._abandoned = self._thread.is_alive()
        return not self._abandoned

    def _run(self, url: str, path: Path) -> None:
        import pooch  # type: ignore[import-untyped]

        responses: list[Any] = []

        def keep(response: Any, **options: Any) -> None:
            responses.append(response)

        try:
            downloader = pooch.HTTPDownloader(progressbar=self, timeout=_NETWORK_TIMEOUT_S, hooks={"response": keep})
            downloader(url, str(path), None)
        except Exception as error:
            self.error = error
        finally:
            for response in responses:  # pooch leaves the connection open when it breaks
                response.close()

    def update(self, n_bytes: int) -> None:
        if self._abandoned:
            raise TimeoutError("the download was abandoned")
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(n_bytes)

    def reset(self) -> None:
        if self._bar is not None:
            self._bar.reset()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _progress_bar() -> Any:
    """Return a tqdm bar, or None where nobody would see it move."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(unit="B", unit_scale=True, unit_divisor=1024, leave=False)


def _one_line(error: Exception) -> str:
    """Return the reason in the words of whoever met it first; requests and urllib3 wrap it in theirs."""
    inner = getattr(error.args[0] if error.args else None, "reason", None) or error
    return " ".join(str(inner).split("): ")[-1].split()) or type(error).__name__


def git_blob_id(path: Path) -> str:
    """Return what ``git hash-object`` prints for the file (40 hexadecimal digits)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
