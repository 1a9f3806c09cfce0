"""Weights on disk: safetensors, written beside and moved into place."""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write the model's state; a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Put the state at `path` into the model.

    Raises:
        RuntimeError: The file belongs to another architecture.
    """
    model.load_state_dict(load_file(path))
