"""Numbers for the distinct values of a batch, and rows of a table at its positions: to the bits of torch, in less time.

NumPy sorts integers that carry their position some ten times as fast as torch does, one by one.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_MANY_ROWS = 2048  # from here on a function of our own takes less time than `embedding`


def rank(values: Tensor, n_values: int) -> tuple[Tensor, Tensor]:
    """Number the distinct values in their order.

    Args:
        values: (n,) of integers, where 0 is nothing.
        n_values: All values are below it.

    Returns:
        numbers: (n,) int64, 0 where the value is 0, otherwise 1 for the smallest that there is, 2 for the next.
        first: (U,) int32 or int64, a position of each number from 1 on.
    """
    if not _is_sortable(values, n_values):
        # The 0 in front makes it number 0, also where there is none.
        distinct, numbers = torch.unique(functional.pad(values, (1, 0)), return_inverse=True)
        numbers = numbers[1:]
        positions = torch.arange(len(numbers), device=values.device)
        return numbers, torch.zeros_like(distinct, dtype=torch.int64).scatter_(0, numbers, positions)[1:]
    ordered, order = _sorted(values, n_values)
    is_new = np.empty(len(order), dtype=np.bool_)
    is_new[0] = ordered[0] > 0
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    numbers_of_all = np.empty(len(order), dtype=np.int64)
    numbers_of_all[order] = np.cumsum(is_new, dtype=np.int64)
    return torch.from_numpy(numbers_of_all), torch.from_numpy(order[is_new])


class Groups(NamedTuple):
    """Which positions have the same value.

    Attributes:
        numbers: (n,) 0 where there is no value, otherwise 1 for the smallest that there is, 2 for the next.
        order: (m,) the positions that have one, those of number 1 first.
        offsets: (U,) where the positions of each number begin in `order`.

    All are int32 or all int64.
    """

    numbers: Tensor
    order: Tensor
    offsets: Tensor

    def first(self) -> Tensor:
        """A position (U,) of each number."""
        return self.order.index_select(0, self.offsets)


def grouped(values: Tensor, n_values: int) -> Groups:
    """Group the positions of integers (n,), all below `n_values`, where 0 is nothing; numbered as by `rank`."""
    if not _is_sortable(values, n_values):
        ordered, order = torch.sort(values, stable=True)
        is_new = ordered > 0
        is_new[1:] &= ordered[1:] > ordered[:-1]
        numbers = torch.empty_like(order).scatter_(0, order, is_new.cumsum(0))
        n_nothing = int((ordered == 0).sum())
        return Groups(numbers, order[n_nothing:], is_new.nonzero().squeeze(1) - n_nothing)
    in_order, positions = _sorted(values, n_values)
    begins = np.empty(len(positions), dtype=np.bool_)
    begins[0] = in_order[0] > 0
    np.not_equal(in_order[1:], in_order[:-1], out=begins[1:])
    numbers_of_all = np.empty_like(positions)
    numbers_of_all[positions] = np.cumsum(begins, dtype=positions.dtype)
    n_zeros = 0 if begins[0] else int(np.searchsorted(in_order, 1))
    offsets = np.flatnonzero(begins)
    offsets -= n_zeros
    parts = (numbers_of_all, positions[n_zeros:], offsets.astype(positions.dtype))
    return Groups(*map(torch.from_numpy, parts))


def by_value(values: Tensor, n_values: int, n_nothing: int) -> tuple[Tensor, Tensor]:
    """The rows (m,) of values (n, k) in the order of the values, and where those of each value begin.

    Args:
        values: (n, k) of integers, a row with its values for each of n.
        n_values: All values are below it.
        n_nothing: All values below it are nothing.

    Returns:
        rows: (m,) the row of each value that is something, those with the smallest value first.
        begins: (n_values - n_nothing,) where in `rows` those of each value begin. Both int32 or both int64.
    """
    n = len(values)
    shift = (n - 1).bit_length()
    kind: Any = np.int32 if n_values << shift < 2**31 else np.int64
    plain = values.numpy()
    keys: NDArray[np.int64] = plain.astype(kind)
    keys <<= shift
    keys |= np.arange(n, dtype=kind)[:, None]
    keys = keys.reshape(-1)
    keys.sort()
    keys &= (1 << shift) - 1
    counts = np.bincount(plain.reshape(-1), minlength=n_values)
    n_skipped = int(counts[:n_nothing].sum())
    begins = np.zeros(n_values - n_nothing, dtype=kind)
    np.cumsum(counts[n_nothing:-1], out=begins[1:])
    return torch.from_numpy(keys[n_skipped:]), torch.from_numpy(begins)


def rows_at(table: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, C) of table (U, C), whose number in rows (n,) int64 counts from 1 on; zeros where it is 0."""
    has_gradient = table.requires_grad and torch.is_grad_enabled()
    is_worth_it = len(rows) >= _MANY_ROWS and _is_plain(table) and _is_sortable(rows, 1 + len(table))
    if has_gradient and is_worth_it:
        return _RowsAt.apply(table, rows)  # type: ignore[no-any-return, no-untyped-call]
    return functional.embedding(rows, functional.pad(table, (0, 0, 1, 0)))  # zeros in front, so that numbers are rows


def values_at(values: Tensor, ids: Tensor, nothing: float) -> Tensor:
    """Values (U,) at ids (B, L) int64, whose number counts from 1 on; `nothing` where it is 0."""
    if _is_plain(values):
        return _ValuesAt.apply(values, ids, nothing)  # type: ignore[no-any-return, no-untyped-call]
    return functional.embedding(ids, functional.pad(values, (1, 0), value=nothing)[:, None]).squeeze(2)


class _RowsAt(torch.autograd.Function):
    """`embedding`, whose gradient is added up row by row in the same order, but not by one call for each position."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.n_rows = len(table)
        return functional.pad(table, (0, 0, 1, 0)).index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        _, order = _sorted(rows, 1 + ctx.n_rows)
        offsets = np.zeros(1 + ctx.n_rows, dtype=order.dtype)
        np.cumsum(np.bincount(rows.numpy(), minlength=1 + ctx.n_rows)[:-1], out=offsets[1:])
        sums = functional.embedding_bag(
            torch.from_numpy(order), gradient.contiguous(), torch.from_numpy(offsets), mode="sum"
        )
        return sums[1:], None


class _ValuesAt(torch.autograd.Function):
    """The same of single values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ids: Tensor, nothing: float) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.n_values = len(values)
        return functional.pad(values, (1, 0), value=nothing).index_select(0, ids.flatten()).view_as(ids)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        return torch.bincount(ids.flatten(), gradient.flatten(), minlength=1 + ctx.n_values)[1:], None, None


def _is_plain(values: Tensor) -> bool:
    """Whether these are float32 on the CPU, and stay so."""
    return values.device.type == "cpu" and values.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _is_sortable(values: Tensor, n_values: int) -> bool:
    """Whether integers with their positions fit into an int64, and may be shown to NumPy."""
    n = values.numel()
    return values.device.type == "cpu" and n > 0 and n_values << (n - 1).bit_length() < 2**63


def _sorted(values: Tensor, n_values: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Values (n,) in their order, equal ones in that of their positions, and these; int32 where that is enough."""
    n = values.numel()
    shift = (n - 1).bit_length()
    kind: Any = np.int32 if n_values << shift < 2**31 else np.int64
    keys: NDArray[np.int64] = values.numpy().astype(kind)
    keys <<= shift
    keys |= np.arange(n, dtype=keys.dtype)
    keys.sort()
    order = keys & ((1 << shift) - 1)
    keys >>= shift
    return keys, order
