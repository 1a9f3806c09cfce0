"""The search space: a tree that mirrors the config, whose leaves say how a value is chosen.

    model:
      channels: {type: int, low: 16, high: 128, log: true}
      pooling: {type: categorical, choices: [mean, attention]}
      heads: {type: int, low: 1, high: 8, when: {model.pooling: attention}}
    data:
      batch_size:
        - {type: categorical, choices: [32, 64], when: {model.pooling: mean}}
        - {type: categorical, choices: [8, 16], when: {model.pooling: attention}}

`when` maps other paths to the value, or list of values, under which the leaf is searched; those may be searched
themselves or fixed. Where several leaves stand in a list, their conditions exclude each other.

A trial's parameter is named by its path (`model.channels`). Where several alternatives can be met, each is a parameter
of its own, since Optuna forbids choices that change within a study: `data.batch_size[model.pooling=mean]`.

On the command line `space.data.batch_size.0.choices=[16]` changes one alternative by its number, and
`'space.data.batch_size=[{...}, {...}]'` or `'space.data.batch_size={...}'` replaces them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.config.nested import Scalar, digest, lookup
from search.space.conditions import holds, path_of
from search.space.corners import find_corners
from search.space.distributions import FloatRange, Leaf

if TYPE_CHECKING:
    from optuna import Trial

from datasets.common.errors import UserError
from search.config.nested import flatten
from search.config.type_checks import convert, shown


@dataclass(frozen=True, kw_only=True)
class Space:
    """The leaves by the name of their parameter, each after those that its condition depends on."""

    leaves: Mapping[str, Leaf]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def paths(self) -> list[str]:
        """Where values are searched, each path once."""
        return list(dict.fromkeys(map(path_of, self.leaves)))

    @property
    def always_searched(self) -> list[str]:
        """The paths whose value is chosen in every trial."""
        return [path_of(name) for name, leaf in self.leaves.items() if not leaf.when]

    @property
    def tree(self) -> dict[str, Any]:
        """Plain values for printing, hashing and comparing: parameter to settings, without unset ones."""
        return {
            name: {key: value for key, value in vars(leaf).items() if value is not None and value != {}}
            for name, leaf in self.leaves.items()
        }

    @property
    def hash(self) -> str:
        """SHA-256 of the space."""
        return digest(self.tree)

    def contains(self, path: str, value: Any) -> bool:
        """Whether some trial may be given `value` at `path`."""
        return any(path_of(name) == path and leaf.contains(value) for name, leaf in self.leaves.items())

    @staticmethod
    def values(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """A trial's parameters as values by path."""
        return {path_of(name): value for name, value in params.items()}

    def suggest(self, trial: "Trial", config: Mapping[str, Any]) -> dict[str, Scalar]:
        """Ask the trial for a value of every leaf whose condition holds; `config` holds the fixed values.

        Returns the values by path; the trial's parameters have the leaves' names.
        """
        values: dict[str, Scalar] = {}
        for name, leaf in self.leaves.items():
            if holds(leaf.when, values, config):
                values[path_of(name)] = leaf.ask(trial, name)
        return values

    def complete(
        self, partial: Mapping[str, Any], resolve: Callable[[Mapping[str, Scalar]], Mapping[str, Any]]
    ) -> dict[str, Scalar] | None:
        """Parameters for a trial that is fixed in advance: `partial`, by path, then the config's own values.

        `resolve` gives the config in which the values at some paths are set, and those that follow from them.
        None if the values do not lie in the space, or contradict a value that was fixed.
        """
        config = resolve({path: value for path, value in partial.items() if path in self.paths})
        params: dict[str, Scalar] = {}
        values: dict[str, Scalar] = {}
        for name, leaf in self.leaves.items():
            if not holds(leaf.when, values, config):
                continue
            value = lookup(config, path_of(name))
            if not leaf.contains(value):
                return None
            params[name] = values[path_of(name)] = float(value) if isinstance(leaf, FloatRange) else value
        # What is not searched under this trial's values stays at the config's own, whatever `partial` says.
        others = {path: value for path, value in partial.items() if path not in values}
        config = resolve(values) if others else config
        return params if all(lookup(config, path) == value for path, value in others.items()) else None

    def corners(self, config: Mapping[str, Any]) -> tuple[dict[str, Scalar], ...]:
        """A few settings of the searched values, by path, that together show all that the space reaches.

        Every extreme of every leaf occurs in one of them at least, and each holds the values of the leaves whose
        condition holds and of no others. There are at most as many as extremes, always in the same order.
        """
        return find_corners(self.leaves, config)


def with_grid(sampler: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The sampler's settings, its grid (where it has one) changed from values by path to values by parameter.

    Of several alternatives at a path each takes the values that it may have.

    Raises:
        UserError: The grid lacks a searched setting, names another, or a value lies outside of the space.
    """
    if "search_space" not in sampler:
        return dict(sampler)
    where = "sampler.search_space"
    grid = dict(flatten(convert(dict[str, Any], sampler["search_space"], where)))
    for path in [*space.paths, *grid]:
        if path not in grid:
            raise UserError(f"{where} lacks {path}: name the values of every searched setting.")
        if path not in space.paths:
            raise UserError(f"{where} names {path}, which is not searched: leave it out.")
        for value in convert(list[Any], grid[path], f"{where}.{path}"):
            if not space.contains(path, value):
                raise UserError(f"{where}.{path} holds {shown(value)}, which is outside of space.{path}.")
    by_name = {name: [*filter(leaf.contains, grid[path_of(name)])] for name, leaf in space.leaves.items()}
    for name, values in by_name.items():
        if not values:
            raise UserError(f"{where}.{path_of(name)} holds no value of space.{name}: add one.")
    return {**sampler, "search_space": by_name}
