"""Batches cut out of tensors that hold a whole split, without any work per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from datasets.batches.batch import Batch, trimmed
from datasets.batches.row_tables import FromRows, RowTables
from datasets.common.seeds import derive_seed
from datasets.features.encoder import Features

_BATCHES_AT_ONCE = 16


class EpochOrder:
    """The order of the training rows, a function of (seed, fold, epoch) and of nothing that happened before.

    A run that is taken up again at some epoch therefore sees the rows as if it had never stopped. Lightning
    calls `set_epoch` before each epoch.
    """

    def __init__(self, rows: Tensor, *, seed: int, fold_number: int) -> None:
        self._rows = rows
        self._seed = seed
        self._fold_number = fold_number
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self._epoch = epoch

    def rows(self) -> Tensor:
        """Return the rows (n,) int64 in the order of the epoch."""
        seed = derive_seed(self._seed, "order", self._fold_number, self._epoch)
        return self._rows[torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(seed))]


class FixedOrder:
    """The same rows in the same order every time."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def rows(self) -> Tensor:
        """Return the rows (n,) int64."""
        return self._rows


class BatchLoader:
    """Batches of `sizes` rows in the order of `sampler`, each as long as its longest row.

    `data` is the whole split on any device, `lengths` (N,) int64 on the CPU its tokens a row. `features` are gathered
    for each batch, on the CPU or, where they are one tensor in memory, on the device of `data`, on which they then are.
    `tables` are of the rows of `data`, for models that compute something once for all of them.
    """

    batch_sampler = None  # Lightning looks at it before it believes `sampler`

    def __init__(
        self,
        *,
        data: Batch,
        lengths: Tensor,
        sampler: EpochOrder | FixedOrder,
        sizes: Sequence[int],
        features: Features | None = None,
        tables: RowTables | None = None,
    ) -> None:
        self.sampler = sampler
        self._data = data
        self._lengths = lengths
        self._is_ragged = bool((lengths != data.tokens.shape[1]).any())
        self._sizes = list(sizes)
        self._features = features
        self._tables = tables

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._sizes)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the sampler's epoch."""
        groups = [
            self._sizes[first : first + _BATCHES_AT_ONCE] for first in range(0, len(self._sizes), _BATCHES_AT_ONCE)
        ]
        for rows, sizes in zip(torch.split(self.sampler.rows(), [*map(sum, groups)]), groups, strict=True):
            yield from self._batches(rows, sizes)

    def _batches(self, rows: Tensor, sizes: list[int]) -> Iterator[Batch]:
        n_columns = self._columns(rows, sizes)
        here = rows.to(self._data.tokens.device)
        # Gathered for many batches at once, which are slices of it: five calls less a batch.
        wide = [self._data.tokens, self._data.mask, self._data.region]
        if self._is_ragged:
            wide = [table[:, : max(n_columns)] for table in wide]
        parts = [torch.split(table.index_select(0, here), sizes) for table in (*wide, self._data.target)]
        scores: Sequence[Tensor | None] = [None] * len(sizes)
        if self._data.scores is not None:
            scores = torch.split(self._data.scores.index_select(0, here), sizes)
        weights: Sequence[Tensor | None] = [None] * len(sizes)
        if self._data.weight is not None:
            weights = torch.split(self._data.weight.index_select(0, here), sizes)
        beside = zip(scores, weights, strict=True)
        batches = zip(*parts, torch.split(here, sizes), torch.split(rows, sizes), n_columns, beside, strict=True)
        for tokens, mask, region, target, index, chosen, n, (known, weight) in batches:
            if self._is_ragged:
                tokens, mask, region = (table[:, :n].contiguous() for table in (tokens, mask, region))
            tokens = tokens.long()
            known_of_all = None if self._tables is None else FromRows(self._tables, index, tokens, mask)
            yield Batch(
                tokens=tokens,
                mask=mask,
                region=region,
                target=target,
                index=index,
                features=self._features_of(chosen, index, n),
                scores=known,
                weight=weight,
                from_rows=known_of_all,
            )

    def _columns(self, rows: Tensor, sizes: list[int]) -> list[int]:
        if not self._is_ragged:
            return [self._data.tokens.shape[1]] * len(sizes)
        return [int(lengths.max()) for lengths in torch.split(self._lengths[rows], sizes)]

    def _features_of(self, rows: Tensor, index: Tensor, n_columns: int) -> Tensor | None:
        if self._features is None:
            return None
        if self._features.values is not None:
            return trimmed(self._features.values, n_columns).index_select(0, index)
        return self._features.gather(rows).to(index.device)


class WholeEpoch:
    """The batches of an epoch as one item, each cut when it is asked for.

    It is no iterable of its own: Lightning would look through all of it for the size of a batch.
    """

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches

    def batches(self) -> Iterator[Batch]:
        """Yield the batches, once."""
        return self._batches

    def to(self, device: torch.device) -> WholeEpoch:
        """Return the epoch with its batches on `device`."""
        return WholeEpoch(batch.to(device) for batch in self._batches)


class EpochLoader:
    """All batches of a loader's epoch as one item: what is called for each item takes as long as a small model's step.

    An epoch ends after `limit` batches (None: with the last one), and earlier where `should_stop`, asked after each
    batch was used, says so.
    """

    batch_sampler = None

    def __init__(self, loader: BatchLoader, *, limit: int | None, should_stop: Callable[[], bool]) -> None:
        self.sampler = loader.sampler
        self._loader = loader
        self._limit = limit
        self._should_stop = should_stop

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def __iter__(self) -> Iterator[WholeEpoch]:
        """Yield the epoch."""
        yield WholeEpoch(self._batches())

    def _batches(self) -> Iterator[Batch]:
        for batch in islice(self._loader, self._limit):
            yield batch
            if self._should_stop():
                return
