"""Which files of weights are one model but for rounding."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from search.training.weights import are_alike


def kernel(order: list[int], **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """A state like a kernel's, which keeps its training rows in the order that the seed gave them."""
    state = {
        "theta": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "dual": torch.tensor([0.5, -3.0, 2.0], dtype=torch.float64)[order],
        "train_tokens": torch.tensor([[1, 2], [1, 3], [9, 2]], dtype=torch.uint8)[order],
        "half": torch.tensor([0.5], dtype=torch.bfloat16),
        "nothing": torch.zeros(0),
    }
    return {**state, **changed}


@pytest.mark.parametrize(
    ("other", "is_alike"),
    [
        (kernel([2, 0, 1]), True),
        (kernel([2, 0, 1], theta=torch.tensor([1.0, 2.0 + 1e-12], dtype=torch.float64)), True),
        (kernel([2, 0, 1], theta=torch.tensor([1.0, 2.1], dtype=torch.float64)), False),
        (kernel([0, 1, 2], train_tokens=torch.tensor([[1, 2], [1, 3], [9, 3]], dtype=torch.uint8)), False),
        (kernel([0, 1, 2], dual=torch.tensor([0.5, -3.0], dtype=torch.float64)), False),
        (kernel([0, 1, 2], dual=torch.tensor([0.5, -3.0, 2.0])), False),
        (kernel([0, 1, 2], more=torch.zeros(1)), False),
    ],
)
def test_the_order_of_rows_and_the_last_bits_tell_no_models_apart(
    other: dict[str, torch.Tensor], is_alike: bool, tmp_path: Path
) -> None:
    save_file(kernel([0, 1, 2]), tmp_path / "one")
    save_file(other, tmp_path / "other")
    assert are_alike(tmp_path / "one", tmp_path / "other") is is_alike
