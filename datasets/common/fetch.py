"""One file from the network: whole, checked and in its place, or not there at all."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from datasets.common.bars import Bar
from datasets.common.errors import UserError

_NETWORK_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16


class DownloadError(Exception):
    """The reason why there is no file."""


def fetch_once(
    url: str,
    final: Path,
    *,
    what: str,
    ways_out: str,
    work_dir: Path,
    check: Callable[[Path], None],
    announce: Callable[[str], None],
    timeout_s: float | None = None,
    replaces: bool = False,
) -> None:
    """Make `final` the checked content of `url`, fetched by whichever process comes first.

    `what` and `ways_out` name the file and say what else the user can do. `work_dir`, on the same file system, holds
    the lock and what is not whole yet. `check` gets the downloaded file and raises DownloadError if it is not what was
    wanted. `timeout_s` limits the whole of it, waiting for another process included; None leaves only each wait for
    the network limited. `replaces`: a file that stands there and does not pass `check` gives way to the new one, once
    that is here; otherwise whatever stands there stays.

    Raises:
        UserError: There is no file, or it cannot be kept where it should be.
    """
    import filelock

    subject = what[0].upper() + what[1:]
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    try:
        if final.parts[0] == "~":  # as libraries leave it where nobody knows a home: such a folder would be made
            raise DownloadError("this user has no home folder to keep it in: set $HOME or $XDG_CACHE_HOME")
        work_dir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(work_dir / ".lock", timeout=-1 if timeout_s is None else timeout_s):
            if not final.is_file() or (replaces and not _passes(check, final)):
                announce(f"Downloading {what} from {url} into {final.parent}.")
                _fetch(url, final, work_dir / ".partial", check, deadline)
    except filelock.Timeout:
        raise UserError(f"Another process has been downloading {what} for {timeout_s:g} s; {ways_out}") from None
    except DownloadError as error:
        reason = f"it took longer than {timeout_s:g} s" if time.monotonic() > deadline else str(error)
        raise UserError(f"{subject} could not be downloaded ({reason}); {ways_out}") from error
    except OSError as error:
        raise UserError(f"{subject} could not be kept in {final.parent} ({error.strerror}); {ways_out}") from error


def _passes(check: Callable[[Path], None], path: Path) -> bool:
    try:
        check(path)
    except DownloadError:
        return False
    return True


def _fetch(url: str, final: Path, partial: Path, check: Callable[[Path], None], deadline: float) -> None:
    """Download into the folder `partial`, check the content, and move it to `final` in one step.

    The caller holds the lock, so a folder that a killed process left behind is nobody's.
    """
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _retrieve(url, partial / final.name, deadline)
        check(partial / final.name)
        os.replace(partial / final.name, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _retrieve(url: str, path: Path, deadline: float) -> None:
    import pooch  # type: ignore[import-untyped]
    import requests
    import urllib3

    name = path.name  # pooch lets the download have another one

    def download(url: str, path: str, _: object) -> None:
        """As pooch's own does, but it looks at the clock whenever something arrives, however little that is."""
        timeout_s = min(_NETWORK_TIMEOUT_S, max(deadline - time.monotonic(), 0.001))
        as_it_is = {"Accept-Encoding": "identity"}
        with requests.get(url, stream=True, timeout=timeout_s, headers=as_it_is) as response, open(path, "wb") as file:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0)) or None
            with Bar(is_bytes=True) as bar:
                while chunk := response.raw.read1(_CHUNK_BYTES):
                    if time.monotonic() > deadline:
                        raise DownloadError("the time is over")
                    file.write(chunk)
                    bar.show(file.tell(), total, name)

    pooch.get_logger().setLevel("WARNING")  # it would tell everybody the hash to write into their program
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=download)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise DownloadError(_one_line(error)) from error
    except (ValueError, TypeError) as error:  # what requests makes of some proxies
        raise DownloadError("the proxy that $HTTPS_PROXY names is no URL") from error


def _one_line(error: Exception) -> str:
    """Return the reason in the words of whoever met it first; requests and urllib3 wrap it in theirs."""
    inner = getattr(error.args[0] if error.args else None, "reason", None) or error
    return " ".join(str(inner).split("): ")[-1].split()) or type(error).__name__
