"""Conditions (`when`) of leaves: what they ask for, and how a leaf among alternatives is told from the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.config.nested import lookup
from search.config.type_checks import shown

When = Mapping[str, Any]


def wanted(value: Any) -> list[Any]:
    """The values under which a condition on one path holds: it names one, or lists several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def holds(when: When, values: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether all of a condition holds for the searched `values` by path, and the config's own where none is."""
    return all(
        (values[path] if path in values else lookup(config, path)) in wanted(want) for path, want in when.items()
    )


def can_hold_together(a: When, b: When) -> bool:
    """Whether no path that both name keeps two conditions apart."""
    return all(_overlap(wanted(a[path]), wanted(b[path])) for path in a if path in b)


def _overlap(a: Sequence[Any], b: Sequence[Any]) -> bool:
    # Those that look alike count as well: parameters are named by them.
    return any(x == y or shown(x) == shown(y) for x in a for y in b)


def parameter_names(path: str, conditions: Sequence[When]) -> list[str]:
    """A name for each of the alternatives at a path: the path, and what tells its condition from the others'.

    `data.batch_size[model.adaptation=last_k|lora]`, whatever the order of alternatives, paths and values.
    """
    asked = [{f"{name}={_listed(want)}" for name, want in when.items()} for when in conditions]
    shared = set.intersection(*asked)
    texts = [",".join(sorted(words - shared)) for words in asked]
    return [f"{path}[{text}]" if text else path for text in texts]


def path_of(name: str) -> str:
    """The path of the value that a parameter chooses."""
    return name.partition("[")[0]


def _listed(want: Any) -> str:
    return "|".join(sorted(shown(value) for value in wanted(want)))
