"""Find one of FLIP's files on this machine, or download it and check what it is.

``python -m datasets.source gb1 --timeout 30`` exits with 0 if the file is there or was fetched, with 2 and
one sentence otherwise.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import UserError, nearest

FLIP_COMMIT = "62cace8735f5610e2743cf06ce0f944b37fffaa6"
URL = "https://raw.githubusercontent.com/J-SNACKKB/FLIP/{commit}/splits/{dataset}/splits.zip"
# The git blob ids of `splits/<dataset>/splits.zip` at that commit.
GIT_BLOBS = {
    "gb1": "5086ae0e4a5f397672feb39b04d71fe8f5d34ae9",
    "aav": "f7a2daee64e0ce9d0de6047fc5fb073f57603dd3",
}
# FLIP's own checkout has `splits/`; the others are how people lay out a data folder.
_LAYOUTS = ("flip/{dataset}/splits.zip", "splits/{dataset}/splits.zip", "{dataset}/splits.zip")
_NETWORK_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFile:
    """A file, the git blob id of its content, and whether that is the one FLIP published."""

    path: Path
    git_blob: str
    official: bool


def find_file(
    dataset: str,
    *,
    data_dir: Path | None,
    announce: Callable[[str], None],
    timeout_s: float | None = None,
) -> FoundFile:
    """Find ``splits.zip`` of a dataset in `data_dir`, $FLIPSEARCH_DATA, ``data/`` or the user's cache.

    If it stands in none of them it is downloaded from FLIP into the cache and checked. `timeout_s` limits the
    whole download; without it only each wait for the network is limited. A UserError names the places and
    what to do.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"The data folder {data_dir} does not exist; name an existing one with --data-dir.")
    folders = [*_folders(data_dir), _cache_dir()]
    for folder in folders:
        for layout in _LAYOUTS:
            path = folder / layout.format(dataset=dataset)
            if path.is_file():
                return _identify(dataset, path)
    looked = f"It was looked for in {', '.join(str(folder) for folder in folders)}"
    return _identify(dataset, _download(dataset, folders[-1], looked, announce, timeout_s))


def git_blob_id(path: Path) -> str:
    """Return what ``git hash-object`` prints for the file (40 hexadecimal digits)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _folders(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        yield data_dir
    if environment := os.environ.get("FLIPSEARCH_DATA"):
        yield Path(environment)
    yield Path("data")


def _cache_dir() -> Path:
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("flipsearch"))


def _identify(dataset: str, path: Path) -> FoundFile:
    try:
        blob = git_blob_id(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    return FoundFile(path=path, git_blob=blob, official=blob == GIT_BLOBS.get(dataset))


def _download(
    dataset: str, cache: Path, looked: str, announce: Callable[[str], None], timeout_s: float | None
) -> Path:
    """Return the path of the file in the cache, fetched by whichever process comes first."""
    import filelock

    url = URL.format(commit=FLIP_COMMIT, dataset=dataset)
    final = cache / _LAYOUTS[0].format(dataset=dataset)
    ways_out = (
        f"{looked}; download it from {url} yourself and name its folder (as <folder>/{dataset}/splits.zip) "
        "with --data-dir or $FLIPSEARCH_DATA."
    )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(final.parent / ".lock", timeout=-1 if timeout_s is None else timeout_s):
            if not final.is_file():
                announce(f"Downloading FLIP's {dataset} file from {url}.")
                _fetch(url, final, GIT_BLOBS[dataset], timeout_s)
    except filelock.Timeout:
        raise UserError(
            f"Another process has been downloading FLIP's {dataset} file for {timeout_s:g} s. {ways_out}"
        ) from None
    except _DownloadError as error:
        raise UserError(f"FLIP's {dataset} file could not be downloaded: {error}. {ways_out}") from error
    except OSError as error:
        raise UserError(
            f"FLIP's {dataset} file could not be kept in {cache} ({error.strerror}). {ways_out}"
        ) from error
    return final


class _DownloadError(Exception):
    """The reason why there is no file."""


def _fetch(url: str, final: Path, git_blob: str, timeout_s: float | None) -> None:
    """Download into a folder beside `final`, check the content, and move it there in one step.

    The caller holds the lock, so a folder that a killed process left behind is nobody's.
    """
    partial = final.parent / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        transfer = _Transfer(url, partial / final.name)
        if not transfer.wait(timeout_s):
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
        import pooch

        responses: list[Any] = []

        def keep(response: Any, **options: Any) -> None:
            responses.append(response)

        try:
            downloader = pooch.HTTPDownloader(
                progressbar=self, timeout=_NETWORK_TIMEOUT_S, hooks={"response": keep}
            )
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
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m datasets.source", description="Find or download one of FLIP's files."
    )
    parser.add_argument("dataset", help=", ".join(GIT_BLOBS))
    parser.add_argument("--data-dir", type=Path, help="look here first")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="limit of the whole download")
    options = parser.parse_args(arguments)
    try:
        if options.dataset not in GIT_BLOBS:
            raise UserError(
                f"There is no dataset {options.dataset!r}; FLIP's are {', '.join(GIT_BLOBS)}."
                + nearest(options.dataset, GIT_BLOBS)
            )
        found = find_file(
            options.dataset,
            data_dir=options.data_dir,
            announce=lambda sentence: print(sentence, file=sys.stderr),
            timeout_s=options.timeout,
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{found.path} ({'FLIP' if found.official else 'not FLIP'}'s file)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
