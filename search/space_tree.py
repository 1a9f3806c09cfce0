"""Read a search space from its tree: find the leaves, name their parameters, put them in order."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from typing import Any

from datasets.errors import UserError, nearest
from search.annotations import shown
from search.conditions import can_hold_together, parameter_names, path_of, wanted
from search.corners import find_values
from search.leaves import Choice, Leaf, make_leaf
from search.space import Space
from search.trees import flatten, lookup

_EXPECTED = "a mapping with type: int, float or categorical, or a list of several, each with a condition (when)"


def make_space(
    tree: Mapping[str, Any], config: Mapping[str, Any], fixed: Sequence[str], derived: Collection[str] = ()
) -> Space:
    """Read the space of a config; paths below one of `fixed` were set by the user and leave it.

    Leaves whose condition cannot hold any more leave it too. `derived` are the paths of values that may follow from
    searched ones.

    Raises:
        UserError: A leaf is malformed, stands where the config has no value, conditions run in a circle, or two
            alternatives could hold at once.
    """
    known = [path for path, _ in flatten(config)]
    leaves: dict[str, Leaf] = {}
    for path, alternatives in _find_leaves(tree):
        if path == "task":
            raise UserError("space.task is not valid: a study is about one task, start one for each.")
        if lookup(config, path, None) is None and path not in known:
            raise UserError(f"space.{path} has no value in the config to search for.{nearest(path, known)}")
        if not any(path == name or path.startswith(f"{name}.") for name in fixed):
            leaves |= _named(path, alternatives)
    for name in leaves:
        _check_condition(name, leaves, known, derived)
    kept: dict[str, Leaf] = {}
    for name in _in_order(leaves):
        # A leaf that falls out stands at its config value from now on, which may decide others.
        if find_values(leaves[name].when, kept, config) is not None:
            kept[name] = leaves[name]
    return Space(leaves=kept)


def _find_leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every path at which a leaf, or a list of leaves, stands, with what stands there."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if _is_leaf(value) or (isinstance(value, list) and value and all(map(_is_leaf, value))):
            yield path, value
        elif isinstance(value, Mapping):
            yield from _find_leaves(value, f"{path}.")
        else:
            raise UserError(f"space.{path}={shown(value)} is not valid: expected {_EXPECTED}.")


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("type"), str)


def _named(path: str, found: Any) -> dict[str, Leaf]:
    """The leaf at a path, or the alternatives there, by the names of their parameters."""
    if not isinstance(found, list):
        return {path: make_leaf(found, f"space.{path}")}
    leaves = [make_leaf(settings, f"space.{path}.{i}") for i, settings in enumerate(found)]
    for i, leaf in enumerate(leaves):
        if not leaf.when:
            raise UserError(f"space.{path}.{i} has no condition: each of several alternatives needs one (when).")
    for (i, one), (j, other) in combinations(enumerate(leaves), 2):
        if can_hold_together(one.when, other.when):
            raise UserError(
                f"space.{path}.{i} and space.{path}.{j} could be searched in one trial: give their conditions (when) "
                "different values of one setting."
            )
    return dict(zip(parameter_names(path, [leaf.when for leaf in leaves]), leaves, strict=True))


def _check_condition(name: str, leaves: Mapping[str, Leaf], known: list[str], derived: Collection[str]) -> None:
    """Refuse a condition that names nothing, or a value that is never sampled: its leaf would not be searched."""
    for path, want in leaves[name].when.items():
        if path not in known:
            raise UserError(f"space.{name}.when names {path}, which is no setting.{nearest(path, known)}")
        parents = [leaf for other, leaf in leaves.items() if path_of(other) == path]
        if path in derived and not any(not leaf.when for leaf in parents):
            raise UserError(f"space.{name}.when names {path}, which may follow from other values: name those instead.")
        for value in wanted(want):
            if parents and not any(leaf.contains(value) for leaf in parents):
                choices = [str(choice) for leaf in parents if isinstance(leaf, Choice) for choice in leaf.choices]
                raise UserError(
                    f"space.{name}.when waits for {path}={shown(value)}, which is never sampled."
                    f"{nearest(str(value), choices)}"
                )


def _in_order(leaves: Mapping[str, Leaf]) -> Iterator[str]:
    """The names, each after those that its condition depends on."""
    at: dict[str, list[str]] = {}
    for name in leaves:
        at.setdefault(path_of(name), []).append(name)
    graph = {path: [p for name in names for p in leaves[name].when if p in at] for path, names in at.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise UserError(f"The conditions (when) of {', '.join(error.args[1])} run in a circle.") from None
    for path in order:
        yield from at[path]
