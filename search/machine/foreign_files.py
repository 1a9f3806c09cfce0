"""Files that somebody else may have written: regular ones of a bounded size, and YAML that holds plain values alone."""

import errno
import os
import stat
from collections.abc import Hashable
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

_DEEPEST = 32
_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read it; a pipe, a device or a folder, which might be read for ever, is refused.

    Raises:
        OSError: It is none, or cannot be opened; `strerror` says why.
    """
    _check_kind(path, os.stat(path).st_mode)  # before it is opened: that alone may wait for ever, or do something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_kind(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """Read a whole file of at most `most_bytes`; the errors are those of `open_regular`, or that it is larger."""
    with open_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
    return data


def load_plain_yaml(text: str) -> Any:
    """Parse YAML that holds numbers, texts, lists and mappings alone.

    Raises:
        ValueError: It is not valid YAML, or holds a tag, an alias, a key twice, a key that is no text, or more lists
            and mappings in one another than any file of ours.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML lets through whatever its constructors raise
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; aliases would let a short file stand for one that fills the memory."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError(f"lists and mappings stand in one another more than {_DEEPEST} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node.tag not in _PLAIN_TAGS:
            raise yaml.YAMLError(f"a value of the kind {node.tag[:60]} is not allowed")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Make a dict; of two equal keys one would hide the other."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"the key {key!r:.60} is no text")
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.YAMLError(f"the key {twice!r:.60} stands there twice")
        return super().construct_mapping(node, deep=deep)


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket and no file", str(path))
