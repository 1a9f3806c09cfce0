"""One file from the network: whole, checked and in its place, or not there at all."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets.common.bars import Bar

_NETWORK_TIMEOUT_S = 30.0


class DownloadError(Exception):
    """The reason why there is no file."""


def fetch_once(
    url: str,
    final: Path,
    *,
    work_dir: Path,
    check: Callable[[Path], None],
    begin: Callable[[], None],
    timeout_s: float | None,
) -> None:
    """Make `final` the checked content of `url`, fetched by whichever process comes first.

    `work_dir`, on the same file system, holds the lock and what is not whole yet. `begin` is called when a download
    is about to start, `check` gets its result and raises DownloadError if that is not what was wanted. `timeout_s`
    limits the whole of it, waiting for another process included; None leaves only each wait for the network limited.

    Raises:
        DownloadError: There is no file, in the words of whoever met the reason first.
        filelock.Timeout: Another process held the lock for `timeout_s`.
        OSError: The file cannot be kept where it should be.
    """
    import filelock

    if final.parts[0] == "~":  # as libraries leave it where nobody knows a home: a folder of that name would be made
        raise DownloadError("this user has no home folder to keep it in: set $HOME or $XDG_CACHE_HOME")
    start = time.monotonic()
    work_dir.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(work_dir / ".lock", timeout=-1 if timeout_s is None else timeout_s):
        if not final.is_file():
            begin()
            _fetch(url, final, work_dir / ".partial", check=check, start=start, timeout_s=timeout_s)


def _fetch(
    url: str, final: Path, partial: Path, *, check: Callable[[Path], None], start: float, timeout_s: float | None
) -> None:
    """Download into the folder `partial`, check the content, and move it to `final` in one step.

    The caller holds the lock, so a folder that a killed process left behind is nobody's.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        transfer = _Transfer(url, partial / final.name)
        if not transfer.wait(None if timeout_s is None else max(start + timeout_s - time.monotonic(), 0.0)):
            raise DownloadError(f"it took longer than {timeout_s:g} s")
        if transfer.error is not None:
            raise DownloadError(_one_line(transfer.error)) from transfer.error
        check(partial / final.name)
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
        self._name = path.name
        self._bar = Bar(is_bytes=True)
        self._thread = threading.Thread(target=self._run, args=(url, path), daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for the end of the download; False if it was abandoned because of the time."""
        try:
            with self._bar:
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
        self._bar.show(self._bar.n_done + n_bytes, self.total or None, self._name)

    def reset(self) -> None:
        """Pooch fills the bar at the end: it begins at 0 again for that."""
        self._bar.n_done = 0

    def close(self) -> None:
        """Whoever waits takes the bar away."""


def _one_line(error: Exception) -> str:
    """Return the reason in the words of whoever met it first; requests and urllib3 wrap it in theirs."""
    inner = getattr(error.args[0] if error.args else None, "reason", None) or error
    return " ".join(str(inner).split("): ")[-1].split()) or type(error).__name__
