"""What follows from the tokens of a split's rows alone, computed once for all of them and not batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

MAX_POSITIONS = 2**21  # of all rows: numbers of windows take 8 MiB at most, the windows 75 MiB, making them 150 MiB


T = TypeVar("T")


class RowTables:
    """Tables that models make of the tokens of all rows, each made when it is first asked for."""

    def __init__(self, tokens: Tensor, mask: Tensor) -> None:
        """Of tokens (N, T) and their mask (N, T) bool, both on the CPU."""
        self._tokens = tokens
        self._mask = mask
        self._made: dict[Hashable, Any] = {}

    @staticmethod
    def fit(tokens: Tensor) -> bool:
        """Whether tables as large as tokens (N, T) may be kept."""
        return tokens.device.type == "cpu" and tokens.numel() <= MAX_POSITIONS

    def tokens(self) -> Tensor:
        """The tokens (N, T) int64, 0 wherever the mask is False."""
        return self._tokens.long().masked_fill(~self._mask, 0)

    def table(self, name: Hashable, make: Callable[[], T]) -> T:
        """The table of that name, or what `make` gives."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found


@dataclass(frozen=True, slots=True)
class FromRows:
    """Where the tokens of a batch are from: its rows (B,) int64 in `tables`.

    `tokens` and `mask` are the batch's own, so that a batch that was given others can be told.
    """

    tables: RowTables
    rows: Tensor
    tokens: Tensor
    mask: Tensor

    def part(self, table: Tensor) -> Tensor:
        """The batch's part (B, L) of a table (N, T)."""
        return table.index_select(0, self.rows)[:, : self.tokens.shape[1]]
