"""Pretrained weights: found on this machine or downloaded from fair-esm, and known by their hash."""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from datasets.common.errors import UserError
from datasets.common.fetch import DownloadError, fetch_once
from datasets.common.files import file_hash, write_text
from models.backbones.checkpoint_format import read_checkpoint
from models.backbones.huggingface import find_folder, folder_hash, read_folder
from models.backbones.names import BACKBONES

MODELS_URL = "https://dl.fbaipublicfiles.com/fair-esm/models"


def find_weights(
    name: str,
    *,
    weights_dir: Path | None,
    announce: Callable[[str], None],
    or_else: str = "set model.pretrained=false for random weights, which need no file",
) -> Path:
    """The file `<name>.pt` in `weights_dir` or torch hub's cache, downloaded into the latter if it is in neither.

    Of ESM-2 a folder in Hugging Face's layout, in `weights_dir` or in the Hub's cache, is as good as a file.

    Raises:
        UserError: There is no such folder, or no file and no way to download it; `or_else` is what to do without.
    """
    if weights_dir is not None and not weights_dir.is_dir():
        raise UserError(f"The weights folder {weights_dir} does not exist; name an existing one with --weights-dir.")
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    folders = [hub] if weights_dir is None else [weights_dir, hub]
    for folder in folders:
        path = folder / f"{name}.pt"
        if path.is_file():
            return path
    if BACKBONES[name].family == "esm2" and (found := find_folder(name, weights_dir)) is not None:
        return found
    url = f"{MODELS_URL}/{name}.pt"
    final = hub / f"{name}.pt"
    ways_out = (
        f"{name}.pt was looked for in {' and '.join(map(str, folders))}; download it from {url} yourself and name its "
        f"folder with --weights-dir, or {or_else}."
    )
    fetch_once(
        url,
        final,
        what=f"the weights of {name}",
        ways_out=ways_out,
        work_dir=hub / f".{name}",
        check=_check_content,
        announce=announce,
    )
    weights_hash(final, name)  # while it is still in the page cache
    return final


def _check_content(path: Path) -> None:
    """Compare the content with the checksums inside it: fair-esm publishes no hashes of its files."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        # What torch wrote before version 1.6 begins with a number of its own, and carries no checksums.
        with path.open("rb") as file:
            if not file.read(16).startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"):
                raise DownloadError("it is no PyTorch checkpoint") from None
    else:
        if damaged is not None:
            raise DownloadError(f"it is damaged at {damaged}")


def read_weights(path: Path, name: str, *, with_head: bool = False) -> dict[str, Tensor]:
    """The tensors of the backbone `name` in a file or folder that `find_weights` found; see `read_checkpoint`."""
    read = read_folder if path.is_dir() else read_checkpoint
    return read(path, name, with_head=with_head)


def weights_hash(path: Path, name: str, *, with_head: bool = False) -> str:
    """``sha256:`` and the SHA-256 of a file's content, remembered until its size or time of change is another.

    Of a folder it is that of the weights in it, however they are divided into files, the language model's head among
    them only `with_head`. The memory is the user's cache folder; where that cannot be written, the hash is computed
    each time.

    Raises:
        UserError: The content contradicts the checksums inside it.
    """
    path = path.resolve()
    before = _stamp(path)
    of_head = with_head and path.is_dir()
    about = os.fsencode(path) + (b"\0head" if of_head else b"")
    note = _notes_dir() / f"{hashlib.sha256(about).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == before:
            return str(known["hash"])
    if path.is_dir():
        digest = folder_hash(path, name, with_head=of_head)
    else:
        try:
            _check_content(path)
        except DownloadError as error:
            raise UserError(f"{path} is not a whole checkpoint ({error}): download it again.") from None
        digest = f"sha256:{file_hash(path)}"
    if _stamp(path) == before:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_text(note, json.dumps({"path": str(path), "stamp": before, "hash": digest}))
    return digest


def _stamp(path: Path) -> list[int]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [file.stat() for file in files if file.is_file()]
    return [part for one in found for part in (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)]


def _notes_dir() -> Path:
    import pooch  # type: ignore[import-untyped]

    return Path(pooch.os_cache("flipsearch")) / "weights"
