"""Which distinct windows a batch has, as rows of the tables that `Convolution` adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.batches.row_tables import FromRows, RowTables
from models.layers.ranks import Groups, grouped
from models.layers.windows import MAX_CODES, window_codes


class _NumberedRows(NamedTuple):
    """The windows around the positions of all rows of a split.

    Their numbers (N, T) int32, 0 where there is no residue; the windows (U, width) int32, of the numbers before; and
    the position (U,) of each, if the same window at two positions is two.
    """

    numbers: Tensor
    windows: Tensor
    places: Tensor | None

    @staticmethod
    def of(tables: RowTables, widths: tuple[int, ...], by_place: bool) -> _NumberedRows:
        """After windows of these widths, one after another; kept with the rows."""

        def make() -> _NumberedRows:
            before = _NumberedRows.of(tables, widths[:-1], False).numbers.long() if widths[:-1] else tables.tokens()
            windows, places, groups = _distinct(before, 1 + int(before.max()), widths[-1], by_place)
            return _NumberedRows(groups.numbers.view_as(before).int(), windows, places)

        return tables.table(("taps", *widths, by_place), make)


def _distinct(ids: Tensor, n_states: int, width: int, by_place: bool) -> tuple[Tensor, Tensor | None, Groups]:
    """The distinct windows (U, width) int32 around ids (B, L), the position (U,) of each, and where they stand."""
    windows, codes, n_codes = window_codes(ids, n_states, width)
    length = ids.shape[1]
    if by_place:
        if n_codes * length > MAX_CODES:
            distinct, numbers = torch.unique(functional.pad(codes.flatten(), (1, 0)), return_inverse=True)
            codes, n_codes = numbers[1:].view_as(ids), len(distinct)
        codes = torch.where(codes > 0, codes + n_codes * torch.arange(length), 0)
        n_codes *= length
    groups = grouped(codes.flatten(), n_codes)
    first = groups.first().long()
    places = first % length
    return windows[first // length, places].int(), places if by_place else None, groups


@dataclass(frozen=True, slots=True)
class TapPositions:
    """Which state stands at each position of a batch.

    Attributes:
        ids: (B, L), 0 where there is no residue, otherwise 1 + the row of its state.
        n_states: How many states there are.
        groups: The positions (B * L) by their state; None of tokens.
        places: (U,) int64, the position of each state, if the same at two positions is two.
        from_rows: Where the batch's rows are from, if windows are numbered for all rows of a split at once.
        widths: Of the windows that led from the residues to these states.
        of_all: (U,) the numbers of these states among those of all rows; None where these are all.
    """

    ids: Tensor
    n_states: int
    groups: Groups | None = None
    places: Tensor | None = None
    from_rows: FromRows | None = None
    widths: tuple[int, ...] = ()
    of_all: Tensor | None = None

    @staticmethod
    def of_tokens(batch: Batch, n_residues: int) -> TapPositions:
        """Of the tokens of a batch, of which there are `n_residues` kinds beside padding."""
        known = batch.from_rows
        if known is not None and known.tokens is batch.tokens and known.mask is batch.mask:
            return TapPositions(batch.tokens, n_residues, from_rows=known)  # of whose ids only the shape is asked
        return TapPositions(batch.tokens.masked_fill(~batch.mask, 0), n_residues)

    @property
    def is_padded(self) -> bool:
        """Whether there are positions without a residue."""
        assert self.groups is not None
        return len(self.groups.order) < self.ids.numel()

    def windows(self, width: int, *, by_place: bool = False) -> tuple[Tensor, TapPositions]:
        """The distinct windows around the positions, in the same order however they are found, and which stands where.

        They are (U, width) int32: tap k of the state with the number s is `width * s + k`, which is less than `width`
        where there is no residue. With `by_place` the same window at two positions is two.
        """
        if self.from_rows is None:
            windows, places, groups = _distinct(self.ids.long(), 1 + self.n_states, width, by_place)
            windows = width * windows
            after = TapPositions(groups.numbers.view_as(self.ids), len(windows), groups, places)
        else:
            known = _NumberedRows.of(self.from_rows.tables, (*self.widths, width), by_place)
            numbers = self.from_rows.part(known.numbers).flatten()
            groups = grouped(numbers, 1 + len(known.windows))
            of_all = numbers.index_select(0, groups.first())
            rows = of_all - 1
            windows = known.windows.index_select(0, rows)
            if self.of_all is None:
                windows *= width
            else:  # from the numbers among all rows to those in the batch
                n_before = len(_NumberedRows.of(self.from_rows.tables, self.widths, False).windows)
                in_batch = torch.empty(1 + n_before, dtype=torch.int32)
                in_batch[0] = 0
                in_batch[self.of_all] = torch.arange(width, width * (1 + self.n_states), width, dtype=torch.int32)
                windows = in_batch.index_select(0, windows.view(-1)).view_as(windows)
            after = TapPositions(
                ids=groups.numbers.view_as(self.ids),
                n_states=len(windows),
                groups=groups,
                places=None if known.places is None else known.places.index_select(0, rows),
                from_rows=self.from_rows,
                widths=(*self.widths, width),
                of_all=of_all,
            )
        return windows + torch.arange(width, dtype=torch.int32), after
