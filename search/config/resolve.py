"""Resolve a config's interpolations, `${trainer.max_epochs}` and the functions that they may call.

    max_resource: ${min:3,${trainer.max_epochs}}
    lr_backbone: "${by:${model.adaptation},{last_k: 2.0e-5, lora: 3.0e-4},null}"

`by` gives the entry for a value, otherwise its last argument; `if_region` the first of two where the task has a mutated
region, and `if_one_length` where its sequences are known to have one length. YAML needs the quotes for the sake of
`: `, and so does Hydra on the command line: `'model.lr_backbone="${by:...}"'`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from datasets.common.errors import UserError
from datasets.task import Task
from search.config.nested import FUNCTIONS, Scalar, other_functions, overlay
from search.config.run_config import task_in
from search.config.type_checks import shown


def _by(value: Any, entries: Mapping[Any, Any], otherwise: Any) -> Any:
    return entries.get(value, otherwise)


def _if_region(task: str, then: Any, otherwise: Any, *, _root_: DictConfig) -> Any:
    return otherwise if _found(task, _root_).region is None else then


def _if_one_length(task: str, then: Any, otherwise: Any, *, _root_: DictConfig) -> Any:
    return then if _found(task, _root_).has_one_length else otherwise


def _found(task: str, root: DictConfig) -> Task:
    table = root.get("table")
    return task_in({"task": task, "table": OmegaConf.to_container(table) if isinstance(table, DictConfig) else None})


# Configs, also those of old studies, call them by their short names; OmegaConf, which has one table for the whole
# process, knows them by names that are ours, so that a program which imports this one keeps its own `min`.
_OURS = "flipsearch."
_OUR_FUNCTIONS = (min, _by, _if_region, _if_one_length)
_FUNCTIONS: Mapping[str, Callable[..., Any]] = dict(zip(FUNCTIONS, _OUR_FUNCTIONS, strict=True))
_CALL = re.compile(rf"(?<!\\)\$\{{\s*({'|'.join(_FUNCTIONS)})\s*:")
for _name, _function in _FUNCTIONS.items():
    OmegaConf.register_new_resolver(_OURS + _name, _function, replace=True)


def _with_our_names(value: Any) -> Any:
    """The tree with each call of a function by the name under which it is registered."""
    if isinstance(value, str):
        return _CALL.sub(rf"${{{_OURS}\1:", value)
    if isinstance(value, Mapping):
        return {key: _with_our_names(one) for key, one in value.items()}
    return [_with_our_names(one) for one in value] if isinstance(value, list | tuple) else value


def _is_resolved(value: Any) -> bool:
    """Whether nothing in a tree of plain values refers to another place, or is missing."""
    if isinstance(value, str):
        return "${" not in value and value != "???"
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_resolved(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_is_resolved, value))
    return value is None or isinstance(value, bool | int | float)


def resolve(tree: Mapping[str, Any], values: Mapping[str, Scalar]) -> dict[str, Any]:
    """The tree with `values` at their paths, and with what follows from them.

    Raises:
        UserError: A value is missing, an interpolation cannot be resolved, or one calls another function. Who may
            write to the database, or gave an experiment, would read variables of this machine by it.
    """
    given = overlay(tree, values)
    if _is_resolved(given):  # OmegaConf takes as long to say so as a small model's solution takes
        return given
    if others := other_functions(given):
        raise UserError(
            f"The config cannot be resolved: it calls {shown(others[0])}, expected no other functions than "
            f"{', '.join(FUNCTIONS)}; write the value itself."
        )
    try:
        config = OmegaConf.create(_with_our_names(given))
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given: add {error.full_key}=... to the command.") from None
    except (OmegaConfBaseException, ValueError) as error:  # OmegaConf's own errors name the key
        raise UserError(f"The config cannot be resolved: {str(error).splitlines()[0].replace(_OURS, '')}.") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
