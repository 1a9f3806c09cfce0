"""Resolve a config's interpolations, `${trainer.max_epochs}` and the functions that they may call.

    max_resource: ${min:3,${trainer.max_epochs}}
    lr_backbone: "${by:${model.adaptation},{last_k: 2.0e-5, lora: 3.0e-4},null}"

`by` gives the entry for a value, otherwise its last argument. YAML needs the quotes for the sake of `: `, and so does
Hydra on the command line: `'model.lr_backbone="${by:...}"'`.
"""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from datasets.errors import UserError
from search.leaves import Scalar
from search.trees import nest


def _by(value: Any, entries: Mapping[Any, Any], otherwise: Any) -> Any:
    return entries.get(value, otherwise)


OmegaConf.register_new_resolver("min", min, replace=True)
OmegaConf.register_new_resolver("by", _by, replace=True)


def resolve(tree: Mapping[str, Any], values: Mapping[str, Scalar]) -> dict[str, Any]:
    """The tree with `values` at their paths, and with what follows from them.

    Raises:
        UserError: A value is missing, or an interpolation cannot be resolved.
    """
    config = OmegaConf.merge(OmegaConf.create(dict(tree)), OmegaConf.create(nest(values)))
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given: add {error.full_key}=... to the command.") from None
    except Exception as error:  # OmegaConf's own errors name the key
        raise UserError(f"The config cannot be resolved: {str(error).splitlines()[0]}.") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
