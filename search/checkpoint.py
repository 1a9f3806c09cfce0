"""Weights on disk: safetensors, written beside and moved into place."""

import os
from pathlib import Path

from safetensors.torch import load_file, save_file

from models.fitness_model import FitnessModel


def save_weights(model: FitnessModel, path: Path) -> None:
    """Write what training may change of the model's state; a reader sees the old file or the new one, no half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.trained_state().items()}, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_weights(model: FitnessModel, path: Path) -> None:
    """Put the state at `path` into the model, whose frozen part stays as it is.

    Raises:
        RuntimeError: The file belongs to another architecture.
    """
    model.load_trained_state(load_file(path))
