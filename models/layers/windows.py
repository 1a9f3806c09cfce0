"""Layers that work on the distinct windows of a batch.

Variants of one protein share nearly all of their local windows: 256 variants of GB1 have 67,840 windows of
five residues, of which some 1,600 differ. What a convolution, and anything applied position by position after
it, computes depends on the window alone, so it is computed once per distinct window. A batch is `ids` (B, L)
into a table of `states` (U, C): 0 is padding, which has no state, and s is row s - 1. Results and gradients are
those of the dense layers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_CODES = 2**62  # windows are numbered with int64
MAX_CANDIDATES = 2**24  # values compared at once in the pooling: 64 MiB in float32


def distinct_windows(ids: Tensor, n_states: int, width: int) -> tuple[Tensor, Tensor]:
    """Number the distinct windows around all positions of a batch.

    Args:
        ids: (B, L) int64 in [0, n_states), 0 where there is no residue.
        n_states: how many states `ids` chooses from, padding included.
        width: positions in a window, odd.

    Returns:
        windows: (U, width) int64, the states of each distinct window that is centred on a residue.
        ids: (B, L) int64, 0 where there is no residue, otherwise 1 + the row of the position's window.
    """
    length, n_codes = ids.shape[1], n_states
    taps = functional.pad(ids, (width // 2, width // 2)).unfold(1, width, 1)  # (B, L, width)
    code, *others = taps.unbind(-1)
    for tap in others:
        if n_codes * n_states > MAX_CODES:
            distinct, code = torch.unique(code, return_inverse=True)
            n_codes = len(distinct)
        code = torch.add(tap, code, alpha=n_states)
        n_codes *= n_states
    code = code.masked_fill(ids == 0, -1).flatten()
    # The -1 in front makes padding number 0, also in a batch that has none.
    distinct, numbers = torch.unique(functional.pad(code, (1, 0), value=-1), return_inverse=True)
    numbers = numbers[1:]
    positions = torch.arange(len(numbers), device=ids.device)
    example = torch.zeros_like(distinct).scatter_(0, numbers, positions)[1:]  # one position of each window
    return taps[example // length, example % length], numbers.view_as(ids)


class MaskedConv1d(nn.Conv1d):
    """FLIP's masked convolution (`baselines/models.py`): zeros where there is no residue, same length."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd to keep the length; take one more.")
        super().__init__(in_channels, out_channels, kernel_size, padding="same")

    def forward(self, states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """From states (U, in_channels) and ids (B, L) to new states (U', out_channels) and ids (B, L)."""
        windows, ids = distinct_windows(ids, 1 + len(states), self.kernel_size[0])
        states = functional.pad(states, (0, 0, 1, 0))  # zeros in front, so that ids are rows
        inputs = functional.embedding(windows, states).flatten(1)  # (U', kernel_size * in_channels)
        return functional.linear(inputs, self.weight.transpose(1, 2).flatten(1), self.bias), ids


def max_over_length(states: Tensor, ids: Tensor) -> Tensor:
    """The maximum (B, C) of states (U, C) over the positions of ids (B, L); padding never wins.

    A sequence of nothing but padding gives zeros. The gradient flows to the winning states only, so the
    (B, L, C) tensor exists only in slices.
    """
    n_sequences, n_channels = len(ids), states.shape[1]
    with torch.no_grad():
        rows = torch.where(ids == 0, ids.amax(dim=1, keepdim=True), ids) - 1  # padding repeats a residue
        rows.clamp_(min=0)  # there is none to repeat in an empty sequence
        shared = (rows == rows[:1]).all(dim=0)  # what all sequences have in common is compared once
        common, varied = shared.nonzero().squeeze(1), (~shared).nonzero().squeeze(1)
        slice_length = max(1, MAX_CANDIDATES // (n_sequences * n_channels))
        winner = rows[:, :1].expand(n_sequences, n_channels)
        best = states.gather(0, winner)
        for part in [rows[:1].index_select(1, common), *torch.split(rows.index_select(1, varied), slice_length, dim=1)]:
            if part.shape[1] > 0:
                # `max_pool1d` finds the position some three times faster than `max` does.
                candidates = functional.embedding(part, states).transpose(1, 2)
                value, position = functional.max_pool1d(candidates, part.shape[1], return_indices=True)
                value, position = value.squeeze(2), position.squeeze(2)
                winner = torch.where(value <= best, winner, part.gather(1, position))  # NaN wins
                best = torch.maximum(value, best)
    pooled = states.gather(0, winner)
    return pooled.masked_fill((ids == 0).all(dim=1, keepdim=True), 0)


def sum_over_length(states: Tensor, ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums (B, C) of states (U, C) over the positions of ids (B, L), each times its weight (B, L) if there are any."""
    states = functional.pad(states, (0, 0, 1, 0))  # zeros in front, so that ids are rows
    return functional.embedding_bag(ids, states, mode="sum", per_sample_weights=weights)


def attention_over_length(states: Tensor, scores: Tensor, ids: Tensor) -> Tensor:
    """Means (B, C) of states (U, C) over the positions of ids (B, L), weighted by the softmax of scores (U)."""
    of_positions = functional.embedding(ids, functional.pad(scores, (1, 0), value=-torch.inf)[:, None]).squeeze(2)
    return sum_over_length(states, ids, torch.softmax(of_positions, dim=1))


def weighted_over_length(states: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Sums (B, C) of states (U, C) over the positions of ids (B, L), each times the position's weights (P, C).

    Positions from P on add nothing. Variants have most pairs of a position and a state in common, so a product is
    computed once for each distinct pair.
    """
    ids = ids[:, : len(weights)]
    n_states = 1 + len(states)
    pairs = ids + n_states * torch.arange(ids.shape[1], device=ids.device)
    distinct, numbers = torch.unique(pairs, return_inverse=True)
    states = functional.pad(states, (0, 0, 1, 0))  # a product with padding is zero
    products = functional.embedding(distinct % n_states, states) * functional.embedding(distinct // n_states, weights)
    return functional.embedding_bag(numbers, products, mode="sum")
