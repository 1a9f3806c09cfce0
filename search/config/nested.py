"""Nested mappings addressed by dotted paths: `model.channels`."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = object()
FUNCTIONS = ("min", "by", "if_region", "if_one_length")
"""The functions that a config may call; `search.config.resolve` says what they do."""
_CALL = re.compile(r"\$\{\s*([^\s:{}$]*)\s*(.?)", re.DOTALL)


def other_functions(tree: Any) -> list[str]:
    """What a tree of plain values calls beside `FUNCTIONS`: OmegaConf's own read the machine's variables and files."""
    if isinstance(tree, Mapping):
        return [name for item in tree.items() for one in item for name in other_functions(one)]
    if isinstance(tree, list | tuple):
        return [name for one in tree for name in other_functions(one)]
    if not isinstance(tree, str) or "${" not in tree:
        return []
    return [name for name, ends in _CALL.findall(tree) if ends != "}" and (ends != ":" or name not in FUNCTIONS)]


def lookup(tree: Any, path: str, default: Any = MISSING) -> Any:
    """The value at a dotted path.

    Raises:
        KeyError: Nothing stands there, and no default was given.
    """
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            if default is MISSING:
                raise KeyError(path)
            return default
        tree = tree[key]
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted path, value) of the tree; empty mappings stand as values."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        else:
            yield path, value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The tree whose values stand at the given dotted paths."""
    return overlay({}, flat)


def overlay(tree: Mapping[str, Any], flat: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with other values at the given dotted paths; mappings on the way are copied or made."""
    copy = {key: overlay(value, {}) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for path, value in flat.items():
        *parents, last = path.split(".")
        node = copy
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return copy


def digest(tree: Any) -> str:
    """SHA-256 of a tree of plain values, whatever the order of its keys."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each path whose value differs: `model.channels: 43 -> 64`.

    Of lists of as many mappings each, such as sources of scores, those of one place are compared; they are named by
    their `kind`, if they have one and the same: `scores.sources.alignment.hash`.
    """
    old, new = dict(flatten(before)), dict(flatten(after))
    lines = []
    for path in [*old, *(path for path in new if path not in old)]:
        a, b = old.get(path, MISSING), new.get(path, MISSING)
        if _are_mappings(a) and _are_mappings(b) and len(a) == len(b):
            for i, (one, other) in enumerate(zip(a, b, strict=True)):
                kind = str(one.get("kind", ""))
                name = kind if kind.isidentifier() and kind == other.get("kind") else i
                lines += [f"{path}.{name}.{line}" for line in difference(one, other)]
        elif a is MISSING or b is MISSING or a != b:
            lines.append(f"{path}: {_shown(a)} -> {_shown(b)}")
    return lines


def _are_mappings(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def _shown(value: Any) -> str:
    return "(none)" if value is MISSING else json.dumps(value)


Scalar = bool | int | float | str | None
