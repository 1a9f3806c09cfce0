"""The corners of a search space, and whether a condition in it can hold at all."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.config.nested import Scalar, lookup
from search.space.conditions import When, holds, path_of, wanted
from search.space.distributions import Leaf

Leaves = Mapping[str, Leaf]
Values = Mapping[str, Scalar]


def find_corners(leaves: Leaves, config: Mapping[str, Any]) -> tuple[dict[str, Scalar], ...]:
    """Values by path under which each extreme of each leaf occurs at least once.

    Each corner takes along as many extremes as its conditions allow, so there are fewer corners than extremes.
    """
    left = {name: list(leaf.extremes) for name, leaf in leaves.items()}
    corners = []
    for name, leaf in leaves.items():
        while left[name]:
            given = find_values(leaf.when, leaves, config)
            assert given is not None, "a space holds only leaves that can be reached"
            corners.append(_corner({**given, path_of(name): left[name][0]}, leaves, config, left))
    return tuple(corners)


def _corner(
    given: Values, leaves: Leaves, config: Mapping[str, Any], left: Mapping[str, list[Scalar]]
) -> dict[str, Scalar]:
    """The `given` values and, for all other leaves whose condition holds, extremes that are left; takes them out."""
    values: dict[str, Scalar] = {}
    for name, leaf in leaves.items():
        if holds(leaf.when, values, config):
            path = path_of(name)
            value = given[path] if path in given else (left[name] or _usual(leaf, path, config))[0]
            if value in left[name]:
                left[name].remove(value)
            values[path] = value
    return values


def find_values(when: When, leaves: Leaves, config: Mapping[str, Any]) -> dict[str, Scalar] | None:
    """Values, by path, of all that a condition depends on, under which it holds; None if it never does.

    `leaves` are in order, each after those that its condition depends on.
    """
    paths = set(when)
    for name, leaf in reversed([*leaves.items()]):
        if path_of(name) in paths:
            paths.update(leaf.when)
    at: dict[str, dict[str, Leaf]] = {}
    for name, leaf in leaves.items():
        if path_of(name) in paths:
            at.setdefault(path_of(name), {})[name] = leaf
    conditions = [when, *(leaf.when for group in at.values() for leaf in group.values())]
    mentioned = {path: [v for other in conditions if path in other for v in wanted(other[path])] for path in at}
    return next(_assignments(list(at), at, when, mentioned, config, {}), None)


def _assignments(
    paths: Sequence[str],
    at: Mapping[str, Leaves],
    when: When,
    mentioned: Mapping[str, list[Any]],
    config: Mapping[str, Any],
    values: dict[str, Scalar],
) -> Iterator[dict[str, Scalar]]:
    """Every way to choose the values at `paths`, as far as conditions can tell, under which `when` holds."""
    # A condition on a path holds or fails as soon as that path is decided.
    decided = {path: want for path, want in when.items() if path not in paths}
    if not holds(decided, values, config):
        return
    if not paths:
        yield values
        return
    path, *rest = paths
    leaf = next((leaf for leaf in at[path].values() if holds(leaf.when, values, config)), None)
    if leaf is None:
        yield from _assignments(rest, at, when, mentioned, config, values)
        return
    # To the conditions all values that none of them names are alike: the usual ones stand for them.
    candidates = [*_usual(leaf, path, config), *filter(leaf.contains, mentioned[path])]
    for value in dict.fromkeys(candidates):
        yield from _assignments(rest, at, when, mentioned, config, {**values, path: value})


def _usual(leaf: Leaf, path: str, config: Mapping[str, Any]) -> list[Scalar]:
    """The config's own value, where a trial may have it, and the leaf's extremes."""
    default = lookup(config, path)
    return [default, *leaf.extremes] if leaf.contains(default) else list(leaf.extremes)
