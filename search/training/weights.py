"""Weights on disk: safetensors and nothing else, written beside and moved into place."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datasets.common.errors import UserError
from datasets.common.files import replaced
from models.fitness_model import FitnessModel


def save_weights(model: FitnessModel, path: Path) -> None:
    """Write what training may change of the model's state; a reader sees the old file or the new one, no half."""
    with replaced(path) as beside:
        save_file(_each_by_itself(model.trained_state()), beside)


def _each_by_itself(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, none of which shares memory with another, as tied parameters do: safetensors refuses these."""
    known: set[int] = set()
    found = {}
    for name, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if memory in known else tensor.contiguous()
        known.add(memory)
    return found


def load_weights(model: FitnessModel, path: Path) -> None:
    """Put the state at `path` into the model, whose frozen part stays as it is.

    Raises:
        UserError: The file is missing, broken, or belongs to another architecture.
    """
    state = _read(path)
    try:
        model.load_trained_state(state)
    except RuntimeError as error:
        raise UserError(
            f"{path} holds the weights of another architecture than this {type(model).__name__}: {error}; "
            "take the weights that were written together with the config."
        ) from None


def are_same(path: Path, other: Path) -> bool:
    """Whether all that both files hold is equal bit for bit; that of another version may hold more.

    Raises:
        UserError: A file is missing or broken.
    """
    states = _read(path), _read(other)
    names = states[0].keys() & states[1].keys()
    return bool(names) and all(torch.equal(states[0][name], states[1][name]) for name in names)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror or error}.") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a file of weights (safetensors), or is damaged: {' '.join(str(error).split())}."
        ) from None
