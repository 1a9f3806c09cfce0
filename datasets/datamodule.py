"""The one LightningDataModule: prepared tensors, cut into batches without any work per item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from datasets.batch import Batch
from datasets.errors import UserError
from datasets.prepared import PreparedSplit
from datasets.seeds import derive_seed
from datasets.task import Task
from datasets.tokenizer import Tokenizer
from datasets.validation import Fold

_BATCHES_AT_ONCE = 16
_VALIDATION_FACTOR = 4  # without gradients a batch needs a fraction of the memory
_ENCODE_ROWS = 8192  # at a time, because tokens are wider than what is kept of them


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
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(seed))
        return self._rows[order.to(self._rows.device)]


class FixedOrder:
    """The same rows in the same order every time."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def rows(self) -> Tensor:
        """Return the rows (n,) int64."""
        return self._rows


class BatchLoader:
    """Batches of `batch_size` rows, the last one shorter if it has to be."""

    batch_sampler = None  # Lightning looks at it before it believes `sampler`

    def __init__(self, data: Batch, sampler: EpochOrder | FixedOrder, batch_size: int, n_rows: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self._data = data
        self._n_rows = n_rows

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self._n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the sampler's epoch."""
        for rows in torch.split(self.sampler.rows(), self.batch_size * _BATCHES_AT_ONCE):
            # Gathered for many batches at once, which are slices of it: five calls less a batch.
            gathered = (self._data.tokens, self._data.mask, self._data.region, self._data.target)
            parts = [torch.split(data.index_select(0, rows), self.batch_size) for data in gathered]
            for tokens, mask, region, target, index in zip(*parts, torch.split(rows, self.batch_size), strict=True):
                yield Batch(tokens=tokens.long(), mask=mask, region=region, target=target, index=index)


class FitnessData(LightningDataModule):
    """The training and validation rows of one fold as a model needs them.

    The whole split is cropped and tokenised once, in the smallest type that holds the tokens, and moved to
    the trainer's GPU if it has one. `crop` names one of the task's crops (None is its default). A UserError
    is raised for a crop that the task lacks or that leaves nothing of a sequence.
    """

    def __init__(
        self,
        *,
        split: PreparedSplit,
        task: Task,
        tokenizer: Tokenizer,
        fold: Fold,
        crop: str | None,
        batch_size: int,
        seed: int,
        fold_number: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        self._batch_size = batch_size
        self._seed = seed
        self._fold_number = fold_number
        self._train = torch.from_numpy(fold.train)
        self._validation = torch.from_numpy(fold.validation)
        residues, region = _cropped(split, task, crop)
        tokens, mask = _encoded(residues, tokenizer)
        self._data = Batch(
            tokens=tokens,
            mask=mask,
            region=_shifted(region, tokenizer.n_prefix, mask.shape[1]) & mask,
            target=torch.from_numpy(split.target),
            index=torch.arange(len(split.target)),
        )

    def setup(self, stage: str) -> None:
        """Move the split to the trainer's device, where there is a trainer and the device is no CPU."""
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            self._data = self._data.to(device)
            self._train = self._train.to(device)
            self._validation = self._validation.to(device)

    def train_dataloader(self) -> BatchLoader:
        """Return the training batches, in another order each epoch."""
        order = EpochOrder(self._train, seed=self._seed, fold_number=self._fold_number)
        return BatchLoader(self._data, order, self._batch_size, len(self._train))

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches, larger ones and always in the order of the source."""
        batch_size = self._batch_size * _VALIDATION_FACTOR
        return BatchLoader(self._data, FixedOrder(self._validation), batch_size, len(self._validation))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; it is there already unless the trainer's device is not the one of `setup`."""
        return batch.to(device)


def _cropped(split: PreparedSplit, task: Task, crop_name: str | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return residues and region (N, L), where L is the longest sequence left."""
    crop = task.crop(crop_name)
    starts, stops = crop.window(split.lengths)
    lengths = stops - starts
    for row in np.flatnonzero(lengths == 0).tolist():
        raise UserError(
            f"The crop {crop_name or task.default_crop!r} leaves nothing of a sequence of "
            f"{split.lengths[row]} residues in {task.name}; use data.crop=none."
        )
    n_columns = int(lengths.max())
    n_uncropped = split.residues.shape[1]
    region = (
        np.ones(split.residues.shape, dtype=np.bool_)
        if task.region is None
        else task.region.mask(split.lengths, n_uncropped)
    )
    if (starts == starts[0]).all():  # true of all tasks so far: a view, no gathering
        window = slice(int(starts[0]), int(starts[0]) + n_columns)
        residues, region = split.residues[:, window], region[:, window]
    else:
        columns = np.minimum(starts[:, None] + np.arange(n_columns), n_uncropped - 1)
        residues = np.take_along_axis(split.residues, columns, axis=1)
        region = np.take_along_axis(region, columns, axis=1)
    inside = np.arange(n_columns) < lengths[:, None]
    return np.where(inside, residues, np.uint8(0)), region & inside


def _encoded(residues: NDArray[np.uint8], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    kind = torch.uint8 if tokenizer.n_tokens <= 256 else torch.int32
    parts = [
        tokenizer.encode(residues[first : first + _ENCODE_ROWS]) for first in range(0, len(residues), _ENCODE_ROWS)
    ]
    tokens = torch.cat([tokens.to(kind) for tokens, _ in parts])
    return tokens, torch.cat([mask for _, mask in parts])


def _shifted(region: NDArray[np.bool_], n_prefix: int, n_columns: int) -> Tensor:
    """Return the region (N, n_columns) in positions of tokens."""
    shifted = torch.zeros((len(region), n_columns), dtype=torch.bool)
    shifted[:, n_prefix : n_prefix + region.shape[1]] = torch.from_numpy(region)
    return shifted
