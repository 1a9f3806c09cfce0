"""The one LightningDataModule: prepared tensors, cut into batches without any work per item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.batches.encode import embedded, encode_sequences, evaluation_loader, longest_first, selected
from datasets.batches.loader import BatchLoader, EpochLoader, EpochOrder
from datasets.batches.row_tables import RowTables
from datasets.batches.window import LengthLimit
from datasets.embeddings.description import EmbeddingKind
from datasets.embeddings.store import StoredEmbeddings
from datasets.features.encoder import Features, Scope
from datasets.sequences.codes import as_bytes
from datasets.sequences.tokenizer import Tokenizer
from datasets.splits.prepared import PreparedSplit
from datasets.splits.row_weights import row_weights
from datasets.task import Task
from datasets.validation.protocols import Fold

_ROWS = 64  # whose features are looked at together


class FitnessData(LightningDataModule):
    """The training and validation rows of one fold as a model needs them.

    The whole split is cut (see `datasets.batches.window`) and tokenised once, in the smallest type that holds the
    tokens, and moved to the trainer's GPU if it has one. A training batch has `batch_size` rows, whatever their
    lengths. Validation batches are made of rows of about the same length, for which `batch_size` and `eval_tokens` are
    limits.

    Args:
        crop: one of the task's crops; None is its default.
        max_length: the most residues of a sequence that are kept (None: all), as the run has it.
        max_residues: the same, as the model has it.
        truncate: cut longer sequences to a window; False refuses them.
        scores: the numbers of the split's score columns that the model sees; none is no scores.
        embeddings: what the split's embeddings are of, and what the model is to see of them; None is nothing.
        fold_number: together with `seed` and the epoch it decides the order of the training rows.

    Attributes:
        tokens: (N, T) of all rows of the split, of a small integer type, on the CPU; 0 at padding.
        mask: (N, T) bool, False at padding. region: (N, T) bool, True where the variants differ.
        lengths: (N,) int64, the tokens of each row. longest: those of the longest one.
        validation_rows: (n,) int64, the split's rows in the order in which `val_dataloader` has them.
        eval_tokens: the most tokens of a validation batch, padding included; None limits its rows only.

    Raises:
        UserError: The task lacks the crop, it leaves nothing of a sequence, a sequence is too long and must not be
            cut, or it cannot be cut without losing a part of the mutated region.
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
        scores: Sequence[int] = (),
        embeddings: tuple[EmbeddingKind, Scope] | None = None,
        fold_number: int = 0,
        max_length: int | None = None,
        truncate: bool = True,
        max_residues: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        limit = LengthLimit(max_length=max_length, max_residues=max_residues, truncate=truncate)
        encoded = encode_sequences(
            split.residues, split.lengths, task=task, tokenizer=tokenizer, crop=crop, limit=limit
        )
        self.tokens, self.mask, self.region = encoded.tokens, encoded.mask, encoded.region
        self.lengths = encoded.lengths
        self.longest = int(self.lengths.max())
        self.eval_tokens: int | None = None
        self.validation_rows: NDArray[np.int64] = longest_first(self.lengths, fold.validation)
        self._train = torch.from_numpy(fold.train)
        self._batch_size = batch_size
        self._seed = seed
        self._fold_number = fold_number
        self._epochs: Callable[[BatchLoader], EpochLoader] | None = None
        self._features: Features | None = None
        self._tables = RowTables(self.tokens, self.mask) if RowTables.fit(self.tokens) else None
        self._data = Batch(
            tokens=self.tokens,
            mask=self.mask,
            region=self.region,
            target=torch.from_numpy(split.target),
            index=torch.arange(len(split.target)),
            scores=selected(split.scores, scores),
            weight=None if split.error is None else torch.from_numpy(row_weights(split.error, fold.train)),
        )
        if embeddings is not None:
            kind, scope = embeddings
            known = StoredEmbeddings(split.embeddings_path, kind, as_bytes(split.residues, split.lengths))
            self._features = embedded(
                known, split.residues, split.lengths, encoded, scope, task=task, crop=crop, limit=limit
            )

    def use_features(self, features: Features) -> None:
        """Let the batches carry features.

        Those that are one tensor in memory, their attribute `values`, follow the split to the GPU; others are
        gathered batch by batch, from wherever they are held.
        """
        self._features = features
        self.move(self._data.tokens.device)

    def training_rows(self) -> Batch:
        """Return all training rows as one batch without features, their tokens of the split's small type."""
        return self._data.take(self._train.to(self._data.target.device))

    def training_features(self) -> Iterator[Tensor]:
        """Yield the features (n, D) of the training rows, some at a time; of residues those of each."""
        assert self._features is not None
        for rows in torch.split(self._train, _ROWS):
            found = self._features.gather(rows)
            yield found if found.dim() == 2 else found[self.mask[rows, : found.shape[1]]]

    def setup(self, stage: str) -> None:
        """Move the split to the trainer's device, where there is a trainer and the device is no CPU."""
        if self.trainer is not None:
            self.move(self.trainer.strategy.root_device)

    def move(self, device: torch.device) -> None:
        """Hold the split, and features that are one tensor, on a device."""
        self._data = self._data.to(device)
        if self._data.tokens.device.type != "cpu":
            self._tables = None
        if self._features is not None and self._features.values is not None:
            self._features = self._features.to(device)

    def give_epochs(self, *, limit: int | None, should_stop: Callable[[], bool]) -> None:
        """Let an item of `train_dataloader` be an epoch (see `EpochLoader`), for a model that `takes_epochs`."""
        self._epochs = partial(EpochLoader, limit=limit, should_stop=should_stop)

    def training_batches(self) -> BatchLoader:
        """Return the training batches, in another order each epoch."""
        n_full, n_rest = divmod(len(self._train), self._batch_size)
        order = EpochOrder(self._train, seed=self._seed, fold_number=self._fold_number)
        return BatchLoader(
            data=self._data,
            lengths=self.lengths,
            sampler=order,
            sizes=[self._batch_size] * n_full + [n_rest] * (n_rest > 0),
            features=self._features,
            tables=self._tables,
        )

    def train_dataloader(self) -> BatchLoader | EpochLoader:
        """Return the training batches, or after `give_epochs` all of an epoch as one item."""
        loader = self.training_batches()
        return loader if self._epochs is None else self._epochs(loader)

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches, larger ones and always in the order of `validation_rows`."""
        return evaluation_loader(
            self._data,
            self.lengths,
            self.validation_rows,
            batch_size=self._batch_size,
            max_tokens=self.eval_tokens,
            features=self._features,
            tables=self._tables,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; it is there already unless the trainer's device is not the one of `setup`."""
        return batch.to(device)
