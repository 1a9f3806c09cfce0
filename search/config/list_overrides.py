"""Overrides of alternatives in the space: Hydra changes an element of a list, but puts nothing else in its place."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from datasets.common.errors import UserError
from search.config.nested import lookup


def is_of_space(override: Override) -> bool:
    """Whether the override changes something in the space, not which space it is."""
    return override.key_or_group.startswith("space.")


def with_replacements(overrides: Sequence[Override], tree: Mapping[str, Any]) -> list[str]:
    """The overrides, changed where one puts a list of alternatives for a single leaf of the space, or the reverse.

    Hydra merges such values or fails: each becomes a removal and an addition. `tree` is what the others are for.

    Raises:
        UserError: One goes into a list of alternatives without naming one of them.
    """
    lines: list[str] = []
    for override in overrides:
        path = override.key_or_group
        if is_of_space(override):
            _check_way(path, tree)
        kinds = {type(lookup(tree, path, None)), type(override.value())}
        if is_of_space(override) and not override.is_add() and kinds == {list, dict}:
            lines += [f"~{path}", f"+{path}={override.get_value_element_as_str()}"]
        else:
            lines.append(str(override.input_line))
    return lines


def _check_way(path: str, tree: Mapping[str, Any]) -> None:
    """Refuse to go on below a list by anything but the number of an element."""
    keys = path.split(".")
    for i in range(1, len(keys)):
        parent = ".".join(keys[:i])
        found = lookup(tree, parent, None)
        if isinstance(found, list) and (i == len(keys) - 1 or keys[i] not in map(str, range(len(found)))):
            raise UserError(
                f"{path} cannot be changed: {parent} is a list of {len(found)} alternatives, change one by its "
                f"number, as in {parent}.0.choices=[...], or replace them all with {parent}=[...]."
            )
