"""The values of a grid, compared with the space: Optuna would only notice in the middle of a trial."""

from collections.abc import Mapping
from typing import Any

from datasets.common.errors import UserError
from search.config.nested import flatten
from search.config.type_checks import convert, shown
from search.space.conditions import path_of
from search.space.space import Space


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
