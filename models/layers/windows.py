"""Layers that work on the distinct windows of a batch.

Variants of one protein share nearly all of their local windows: 256 variants of GB1 have 67,840 windows of
five residues, of which some 1,600 differ. What a convolution, and anything applied position by position after
it, computes depends on the window alone, so it is computed once per distinct window. A batch is `ids` (B, L)
into a table of `states` (U, C): 0 is padding, which has no state, and s is row s - 1. Results and gradients are
those of the dense layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.batches.row_tables import FromRows, RowTables
from models.layers.ranks import rank, rows_at, values_at

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
    taps, code, n_codes = window_codes(ids, n_states, width)
    numbers, example = rank(code.flatten(), n_codes)
    length = ids.shape[1]
    return taps[example // length, example % length], numbers.view_as(ids)


def window_codes(ids: Tensor, n_states: int, width: int) -> tuple[Tensor, Tensor, int]:
    """The windows (B, L, width) around the positions of ids (B, L), and a number for each that orders them.

    The numbers (B, L) are the same for the same window only, and 0 where there is no residue; the last value that is
    given back is above all of them.
    """
    n_codes = n_states
    taps = functional.pad(ids, (width // 2, width // 2)).unfold(1, width, 1)
    code, *others = taps.unbind(-1)
    for tap in others:
        if n_codes * n_states > MAX_CODES:
            distinct, code = torch.unique(code, return_inverse=True)
            n_codes = len(distinct)
        code = torch.add(tap, code, alpha=n_states)
        n_codes *= n_states
    return taps, (code + 1).masked_fill(ids == 0, 0), n_codes + 1


class _NumberedRows(NamedTuple):
    """The windows around the positions of all rows of a split.

    Their numbers (N, T) int32, 0 where there is no residue, and the windows (U, width) int32, of the numbers before.
    """

    numbers: Tensor
    windows: Tensor

    @staticmethod
    def of(tables: RowTables, widths: tuple[int, ...]) -> _NumberedRows:
        """After windows of these widths, one after another; kept with the rows."""

        def make() -> _NumberedRows:
            before = _NumberedRows.of(tables, widths[:-1]).numbers.long() if widths[:-1] else tables.tokens()
            windows, numbers = distinct_windows(before, 1 + int(before.max()), widths[-1])
            return _NumberedRows(numbers.int(), windows.int())

        return tables.table(("windows", *widths), make)


@dataclass(frozen=True, slots=True)
class StatePositions:
    """Which state stands at each position of a batch.

    Attributes:
        ids: (B, L) int64, 0 where there is no residue, otherwise 1 + the row of its state.
        n_states: How many states there are to choose from, padding included.
        from_rows: Where the batch's rows are from, if windows are numbered for all rows of a split at once.
        widths: Of the windows that led from the residues to these states.
        of_all: (n_states - 1,) int32, the numbers of these states among those of all rows; None where these are all.
    """

    ids: Tensor
    n_states: int
    from_rows: FromRows | None = None
    widths: tuple[int, ...] = ()
    of_all: Tensor | None = None

    @staticmethod
    def of_tokens(batch: Batch, n_tokens: int) -> StatePositions:
        """Of the tokens of a batch, of which there are `n_tokens` kinds, padding included."""
        known = batch.from_rows
        if known is not None and not (known.tokens is batch.tokens and known.mask is batch.mask):
            known = None
        return StatePositions(batch.tokens.masked_fill(~batch.mask, 0), n_tokens, known)

    def windows(self, width: int) -> tuple[Tensor, StatePositions]:
        """The distinct windows (U, width) int64 around the positions (see `distinct_windows`), and which stands where.

        Windows of all rows are numbered in the same order as those of a batch, so that these get the same numbers.
        """
        if self.from_rows is None:
            windows, ids = distinct_windows(self.ids, self.n_states, width)
            return windows, StatePositions(ids, 1 + len(windows))
        widths = (*self.widths, width)
        known = _NumberedRows.of(self.from_rows.tables, widths)
        numbers = self.from_rows.part(known.numbers).flatten()
        ids, first = rank(numbers, 1 + len(known.windows))
        distinct = numbers.index_select(0, first)
        windows = known.windows.index_select(0, distinct - 1)
        if self.of_all is None:
            windows = windows.long()
        else:  # from the numbers among all rows to those in the batch
            n_before = len(_NumberedRows.of(self.from_rows.tables, self.widths).windows)
            in_batch = torch.empty(1 + n_before, dtype=torch.int64)
            in_batch[0] = 0
            in_batch[self.of_all.long()] = torch.arange(1, self.n_states)
            windows = in_batch.index_select(0, windows.flatten()).view_as(windows)
        return windows, StatePositions(ids.view_as(self.ids), 1 + len(windows), self.from_rows, widths, distinct)


class MaskedConv1d(nn.Conv1d):
    """FLIP's masked convolution (`baselines/models.py`): zeros where there is no residue, same length."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd to keep the length; take one more.")
        super().__init__(in_channels, out_channels, kernel_size, padding="same")

    def forward(self, states: Tensor, positions: StatePositions) -> tuple[Tensor, StatePositions]:  # type: ignore[override]
        """From states (U, in_channels) at positions to new states (U', out_channels) at the same positions."""
        windows, positions = positions.windows(self.kernel_size[0])
        inputs = rows_at(states, windows.flatten()).view(len(windows), -1)  # (U', kernel_size * in_channels)
        return functional.linear(inputs, self.weight.transpose(1, 2).flatten(1), self.bias), positions


def max_over_length(states: Tensor, ids: Tensor) -> Tensor:
    """The maximum (B, C) of states (U, C) over the positions of ids (B, L); padding never wins.

    A sequence of nothing but padding gives zeros. The gradient flows to the winning states only, so the
    (B, L, C) tensor exists only in slices.
    """
    winner, is_empty = winners_over_length(states, ids)
    pooled = states.gather(0, winner)
    return pooled if is_empty is None else pooled.masked_fill(is_empty, 0)


@torch.no_grad()
def winners_over_length(states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor | None]:
    """The rows (B, C) of states (U, C) with the largest values at the positions of ids (B, L).

    Also (B, 1) True for sequences of nothing but padding; None where nothing is padded.
    """
    n_sequences, n_channels = len(ids), states.shape[1]
    has_padding = bool((ids == 0).any())
    if has_padding:
        rows = torch.where(ids == 0, ids.amax(dim=1, keepdim=True), ids) - 1  # padding repeats a residue
        rows.clamp_(min=0)  # there is none to repeat in an empty sequence
    else:
        rows = ids - 1
    shared = (rows == rows[:1]).all(dim=0)  # what all sequences have in common is compared once
    common, varied = shared.nonzero().squeeze(1), (~shared).nonzero().squeeze(1)
    slice_length = max(1, MAX_CANDIDATES // (n_sequences * n_channels))
    begins_alike = len(common) > 0 and int(common[0]) == 0
    winner = rows[: 1 if begins_alike else n_sequences, :1].expand(-1, n_channels)
    best = states.gather(0, winner)
    for part in [rows[:1].index_select(1, common), *torch.split(rows.index_select(1, varied), slice_length, dim=1)]:
        if part.shape[1] > 0:
            # `max_pool1d` finds the position some three times faster than `max` does.
            candidates = functional.embedding(part, states).transpose(1, 2)
            value, position = functional.max_pool1d(candidates, part.shape[1], return_indices=True)
            value, position = value.squeeze(2), position.squeeze(2)
            winner = torch.where(value <= best, winner, part.gather(1, position))  # NaN wins
            best = torch.maximum(value, best)
    return winner.expand(n_sequences, n_channels), (ids == 0).all(dim=1, keepdim=True) if has_padding else None


def sum_over_length(states: Tensor, ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sums (B, C) of states (U, C) over the positions of ids (B, L), each times its weight (B, L) if there are any."""
    states = functional.pad(states, (0, 0, 1, 0))  # zeros in front, so that ids are rows
    return functional.embedding_bag(ids, states, mode="sum", per_sample_weights=weights)


def attention_over_length(states: Tensor, scores: Tensor, ids: Tensor) -> Tensor:
    """Means (B, C) of states (U, C) over the positions of ids (B, L), weighted by the softmax of scores (U)."""
    return sum_over_length(states, ids, torch.softmax(values_at(scores, ids, -torch.inf), dim=1))


def weighted_over_length(states: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Sums (B, C) of states (U, C) over the positions of ids (B, L), each times the position's weights (P, C).

    Positions from P on add nothing. Variants have most pairs of a position and a state in common, so a product is
    computed once for each distinct pair.
    """
    ids = ids[:, : len(weights)]
    n_states = 1 + len(states)
    pairs = (1 + ids + n_states * torch.arange(ids.shape[1], device=ids.device)).flatten()
    numbers, example = rank(pairs, 1 + n_states * ids.shape[1])
    distinct = pairs[example] - 1
    products = rows_at(states, distinct % n_states) * rows_at(weights, 1 + distinct // n_states)
    return functional.embedding_bag(numbers.view_as(ids) - 1, products, mode="sum")
