"""Read a search space from its tree: find the leaves, put them in order, name their parameters."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from typing import Any

from datasets.common.errors import UserError, nearest
from search.config.nested import flatten, lookup
from search.config.type_checks import shown
from search.space.conditions import can_hold_together, parameter_names, path_of, wanted
from search.space.corners import find_values
from search.space.distributions import Choice, Leaf, make_leaf
from search.space.space import Space

_EXPECTED = "a mapping with type: int, float or categorical, or a list of several, each with a condition (when)"


def _is_never_known(path: str, value: Any) -> bool:
    return False


def make_space(
    tree: Mapping[str, Any],
    config: Mapping[str, Any],
    fixed: Sequence[str],
    derived: Collection[str] = (),
    is_known: Callable[[str, Any], bool] = _is_never_known,
) -> Space:
    """Read the space of a config; paths below one of `fixed` were set by the user and leave it.

    Leaves whose condition cannot hold (any more) leave it too. `derived` are the paths of values that may follow from
    searched ones; `is_known` tells whether a value that is never sampled at a path is no typing error.

    Raises:
        UserError: A leaf is malformed, stands where the config has no value, conditions run in a circle, or two
            alternatives could hold at once.
    """
    known = [path for path, _ in flatten(config)]
    leaves: dict[str, Leaf] = {}
    for path, alternatives in _find_leaves(tree):
        if path == "task":
            raise UserError("space.task is not valid: a study is about one task, start one for each.")
        if path.startswith("validation"):
            raise UserError(f"space.{path} is not valid: values of different validations cannot be compared, name one.")
        if lookup(config, path, None) is None and path not in known:
            raise UserError(f"space.{path} has no value in the config to search for.{nearest(path, known)}")
        if not any(path == name or path.startswith(f"{name}.") for name in fixed):
            leaves |= _read(path, alternatives)
    for name in leaves:
        _check_condition(name, leaves, known, derived, is_known)
    kept: dict[str, Leaf] = {}
    for name in _in_order(leaves):
        # A leaf that falls out stands at its config value from now on, which may decide others.
        if find_values(leaves[name].when, kept, config) is not None:
            kept[name] = leaves[name]
    return Space(leaves=_named(kept, config))


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


def _read(path: str, found: Any) -> dict[str, Leaf]:
    """The leaf at a path, or the alternatives there: by the path, or with their number in brackets."""
    if not isinstance(found, list):
        return {path: make_leaf(found, _place(path))}
    leaves = {f"{path}[{i}]": make_leaf(settings, _place(f"{path}[{i}]")) for i, settings in enumerate(found)}
    for name, leaf in leaves.items():
        if not leaf.when:
            raise UserError(f"{_place(name)} has no condition: each of several alternatives needs one (when).")
    for (name, leaf), (other, another) in combinations(leaves.items(), 2):
        if can_hold_together(leaf.when, another.when):
            raise UserError(
                f"{_place(name)} and {_place(other)} could be searched in one trial: give their conditions (when) "
                "different values of one setting."
            )
    return leaves


def _place(name: str) -> str:
    """Where a leaf stands, as an override would name it."""
    return "space." + name.replace("[", ".").removesuffix("]")


def _check_condition(
    name: str,
    leaves: Mapping[str, Leaf],
    known: list[str],
    derived: Collection[str],
    is_known: Callable[[str, Any], bool],
) -> None:
    """Refuse a condition that names nothing, or a value that is never sampled: its leaf would not be searched."""
    for path, want in leaves[name].when.items():
        where = f"{_place(name)}.when"
        if path not in known:
            raise UserError(f"{where} names {path}, which is no setting.{nearest(path, known)}")
        parents = [leaf for other, leaf in leaves.items() if path_of(other) == path]
        if path in derived and not any(not leaf.when for leaf in parents):
            raise UserError(f"{where} names {path}, which may follow from other values: name those instead.")
        for value in wanted(want):
            if parents and not any(leaf.contains(value) for leaf in parents) and not is_known(path, value):
                choices = [str(choice) for leaf in parents if isinstance(leaf, Choice) for choice in leaf.choices]
                raise UserError(
                    f"{where} waits for {path}={shown(value)}, which is never sampled.{nearest(str(value), choices)}"
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


def _named(leaves: Mapping[str, Leaf], config: Mapping[str, Any]) -> dict[str, Leaf]:
    """The leaves by the names of their parameters."""
    at: dict[str, list[Leaf]] = {}
    for name, leaf in leaves.items():
        at.setdefault(path_of(name), []).append(leaf)

    def is_met(path: str, value: Any) -> bool:
        return bool(value == lookup(config, path)) or any(leaf.contains(value) for leaf in at.get(path, []))

    named: dict[str, Leaf] = {}
    for path, group in at.items():
        # Values that no trial meets would only make a name long.
        met = [{p: [v for v in wanted(want) if is_met(p, v)] for p, want in leaf.when.items()} for leaf in group]
        named |= zip(parameter_names(path, met), group, strict=True)
    return named
