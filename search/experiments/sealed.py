"""A file of plain values as YAML, whose last line is a checksum: the SHA-256 of all bytes before that line."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from datasets.common.errors import UserError
from datasets.common.files import write_text
from search.machine.foreign_files import load_plain_yaml, read_regular

_CHECKSUM = "  checksum: "
_CHANGED = "{path} was changed since it was written: its checksum does not match its bytes."
_HEADER = "# A frozen flipsearch experiment. Check it: python run_study.py verify FILE\n"
_MOST_BYTES = 8 * 2**20  # a value after each of 100,000 epochs takes 2 MB


def write_sealed(tree: Mapping[str, Any], path: Path) -> None:
    """Write a tree that ends in a mapping `provenance` beside `path` and move it into place.

    Raises:
        UserError: It is too large a file to be read again.
    """
    text = seal(_HEADER + _dump(tree))
    if len(text.encode()) > _MOST_BYTES:
        raise UserError(
            f"The experiment {path} would be larger than {_MOST_BYTES:,} bytes, which is more than can be read again: "
            "combine fewer --members, or train for fewer epochs."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def seal(text: str) -> str:
    """The text with its last line, the checksum, made right; one is added where there is none."""
    lines = text.splitlines(keepends=True)
    body = "".join(lines[:-1] if lines and lines[-1].startswith(_CHECKSUM) else lines)
    return f"{body}{_CHECKSUM}{_digest(body.encode())}\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """The tree of a file that nobody changed since it was written.

    Raises:
        UserError: It cannot be read, is no experiment, or was changed.
    """
    try:
        data = read_regular(path, most_bytes=_MOST_BYTES)
        text = data.decode("utf-8")
    except OSError as error:
        raise UserError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not an experiment: it is not text in UTF-8.") from None
    body, _, last = data.rstrip(b"\n").rpartition(b"\n")
    is_intact = last == f"{_CHECKSUM}{_digest(body + bytes([10]))}".encode()
    if last.startswith(_CHECKSUM.encode()) and not is_intact:
        raise UserError(_CHANGED.format(path=path))
    try:
        tree = load_plain_yaml(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("provenance"), Mapping):
        raise UserError(
            f"{path} is not a frozen experiment: it has no provenance. A search writes one into its --export-dir."
        )
    if not is_intact:
        raise UserError(_CHANGED.format(path=path))
    return dict(tree)


def check_unchanged(path: Path, checksum: str) -> None:
    """Refuse a file that was written anew since this checksum stood in it. Raises a UserError."""
    if read_sealed(path)["provenance"].get("checksum") != checksum:
        raise UserError(f"{path} was exported anew meanwhile, and nothing was written: run the same command again.")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _dump(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(_plain(tree), sort_keys=False, allow_unicode=True, width=110)


def _plain(value: Any) -> Any:
    """Lists and mappings of plain values: YAML has no tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
