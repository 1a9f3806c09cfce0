"""Weights on disk: safetensors and nothing else, written beside and moved into place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datasets.common.errors import UserError
from datasets.common.files import replaced, with_usual_mode
from models.fitness_model import FitnessModel

_ROUNDING = 1e-6  # of the largest number of its kind, so far numbers that are summed in another order may lie apart


def save_weights(model: FitnessModel, path: Path) -> None:
    """Write what training may change of the model's state; a reader sees the old file or the new one, no half."""
    with replaced(path) as beside:
        save_file(_each_by_itself(model.trained_state()), beside)
        with_usual_mode(beside)


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


def are_alike(path: Path, other: Path) -> bool:
    """Whether both are one model but for rounding, of models that keep their training rows in whatever order.

    Raises:
        UserError: A file is missing or broken.
    """
    states = _read(path), _read(other)
    return states[0].keys() == states[1].keys() and all(
        _is_alike(_array(states[0][name]), _array(states[1][name])) for name in states[0]
    )


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    found: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # which has no such
    return found


def _is_alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if _is_close(one, other):
        return True
    if one.ndim == 1:
        return _is_close(np.sort(one), np.sort(other))
    return one.ndim > 1 and sorted(row.tobytes() for row in one) == sorted(row.tobytes() for row in other)


def _is_close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.kind != "f" or not one.size:
        return np.array_equal(one, other)
    return bool(np.allclose(one, other, rtol=0, atol=_ROUNDING * np.abs(one).max()))


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror or error}.") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a file of weights (safetensors), or is damaged: {' '.join(str(error).split())}."
        ) from None
