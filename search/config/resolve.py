"""Resolve a config's interpolations, `${trainer.max_epochs}` and the functions that they may call.

    max_resource: ${min:3,${trainer.max_epochs}}
    lr_backbone: "${by:${model.adaptation},{last_k: 2.0e-5, lora: 3.0e-4},null}"

`by` gives the entry for a value, otherwise its last argument; `if_region` the first of two where the task has a mutated
region. YAML needs the quotes for the sake of `: `, and so does
Hydra on the command line: `'model.lr_backbone="${by:...}"'`.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from datasets.common.errors import UserError
from search.config.nested import Scalar, overlay
from search.config.run_config import task_in


def _by(value: Any, entries: Mapping[Any, Any], otherwise: Any) -> Any:
    return entries.get(value, otherwise)


def _if_region(task: str, then: Any, otherwise: Any, *, _root_: DictConfig) -> Any:
    table = _root_.get("table")
    tree = {"task": task, "table": OmegaConf.to_container(table) if isinstance(table, DictConfig) else None}
    return otherwise if task_in(tree).region is None else then


OmegaConf.register_new_resolver("min", min, replace=True)
OmegaConf.register_new_resolver("by", _by, replace=True)
OmegaConf.register_new_resolver("if_region", _if_region, replace=True)


def resolve(tree: Mapping[str, Any], values: Mapping[str, Scalar]) -> dict[str, Any]:
    """The tree with `values` at their paths, and with what follows from them.

    Raises:
        UserError: A value is missing, or an interpolation cannot be resolved.
    """
    try:
        config = OmegaConf.create(overlay(tree, values))
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given: add {error.full_key}=... to the command.") from None
    except Exception as error:  # OmegaConf's own errors name the key
        raise UserError(f"The config cannot be resolved: {str(error).splitlines()[0]}.") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
