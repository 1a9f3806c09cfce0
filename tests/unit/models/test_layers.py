"""Distinct windows and the pooling over them."""

import pytest
import torch
from torch.nn import functional

from models.layers.windows import MaskedConv1d, distinct_windows, max_over_length


@pytest.mark.parametrize("width", [1, 3, 5, 9])
@pytest.mark.parametrize("n_states", [23, 2**15, 2**31], ids=["residues", "renumbered once", "renumbered often"])
def test_windows_are_distinct_and_rebuild_the_batch(n_states: int, width: int) -> None:
    ids = torch.randint(1, n_states, (6,))[torch.randint(0, 6, (20, 30))]
    ids[3, 20:], ids[7, 5:], ids[11, 9] = 0, 0, 0  # padding, and a gap
    windows, numbers = distinct_windows(ids, n_states, width)
    expected = functional.pad(ids, (width // 2, width // 2)).unfold(1, width, 1)
    assert torch.equal(numbers == 0, ids == 0)
    assert torch.equal(windows[numbers[numbers > 0] - 1], expected[ids > 0])
    assert len(windows.unique(dim=0)) == len(windows) == numbers.max()


def test_a_batch_without_residues_has_no_windows() -> None:
    windows, numbers = distinct_windows(torch.zeros(2, 7, dtype=torch.int64), 23, 5)
    assert windows.shape == (0, 5)
    assert not numbers.any()


@pytest.mark.parametrize("max_candidates", [1, 700, 2**24])
def test_maximum_and_its_gradient_are_those_of_the_dense_form(
    max_candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.layers.windows.MAX_CANDIDATES", max_candidates)
    states = torch.randn(40, 12).relu().requires_grad_()
    ids = torch.randint(1, 41, (1, 25)).repeat(9, 1)
    ids[:, 10:18] = torch.randint(0, 41, (9, 8))  # what differs, with gaps
    ids[4, 20:] = 0
    weight = torch.randn(9, 12)
    pooled = max_over_length(states, ids)
    (gradient,) = torch.autograd.grad((pooled * weight).sum(), states)
    dense = states[ids - 1].masked_fill((ids == 0)[..., None], -1).max(dim=1).values
    (expected,) = torch.autograd.grad((dense * weight).sum(), states)
    assert torch.equal(pooled, dense)
    used = states.detach() > 0  # at zero the relu before it lets no gradient through
    torch.testing.assert_close(gradient[used], expected[used])


@pytest.mark.parametrize("first", [0, 10, 25], ids=["none in common", "the first in common", "all in common"])
@pytest.mark.parametrize("n", [1, 9])
def test_maximum_without_padding_is_that_of_the_dense_form(n: int, first: int) -> None:
    states = torch.randn(40, 12, requires_grad=True)
    ids = torch.randint(1, 41, (1, 25)).repeat(n, 1)
    ids[:, first:18] = torch.randint(1, 41, ids[:, first:18].shape)
    weight = torch.randn(n, 12)
    pooled = max_over_length(states, ids)
    (gradient,) = torch.autograd.grad((pooled * weight).sum(), states)
    dense = states[ids - 1].max(dim=1).values
    (expected,) = torch.autograd.grad((dense * weight).sum(), states)
    assert torch.equal(pooled, dense)
    torch.testing.assert_close(gradient, expected)


def test_negative_states_win_over_padding_and_over_other_sequences() -> None:
    states = -torch.rand(40, 12)
    ids = torch.randint(1, 41, (9, 25))
    ids[4, 20:], ids[5, :3] = 0, 0
    expected = states[ids - 1].masked_fill((ids == 0)[..., None], -torch.inf).amax(dim=1)
    assert torch.equal(max_over_length(states, ids), expected)


def test_a_sequence_without_residues_pools_to_zero() -> None:
    states = torch.tensor([[1.0, 2.0]])
    assert torch.equal(max_over_length(states, torch.tensor([[1, 1], [0, 0]])), torch.tensor([[1.0, 2], [0, 0]]))


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size=4 must be odd"):
        MaskedConv1d(22, 8, 4)
