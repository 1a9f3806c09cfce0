"""What a model gets to see at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.batches.row_tables import FromRows


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B sequences, padded to a common length L.

    tokens: (B, L) int64, 0 at padding.
    mask: (B, L) bool, False at padding.
    region: (B, L) bool, True where the variants of the dataset differ; never at padding.
    target: (B,) float32, in the task's units.
    index: (B,) int64, the rows in the prepared split.
    features: what a frozen model made of the sequences, (B, D) pooled or (B, L, D) of each token (0 at padding),
        float32 or bfloat16; None where nothing was computed beforehand.
    scores: (B, K) float32, what is known of the variants without measuring them, as it came and NaN where it is
        missing; None where the model is to see no score column.
    weight: (B,) float32, how much each row counts in training, 1 on average over the training rows; None: all alike.
    from_rows: what is computed once for all rows of a split, of which these are some; None where nothing is kept.
    """

    tokens: Tensor
    mask: Tensor
    region: Tensor
    target: Tensor
    index: Tensor
    features: Tensor | None = None
    scores: Tensor | None = None
    weight: Tensor | None = None
    from_rows: FromRows | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; nothing is copied if it is there."""
        device = torch.device(device)
        if self.tokens.device == device:
            return self
        return Batch(
            tokens=self.tokens.to(device),
            mask=self.mask.to(device),
            region=self.region.to(device),
            target=self.target.to(device),
            index=self.index.to(device),
            features=None if self.features is None else self.features.to(device),
            scores=None if self.scores is None else self.scores.to(device),
            weight=None if self.weight is None else self.weight.to(device),
        )

    def parts(self, max_tokens: int | None) -> list[Batch]:
        """Cut the batch into micro-batches of at most `max_tokens` tokens, padding included.

        The rows are sorted by length, the longest first and equal ones in their order, and each part is trimmed to
        its own longest row; a row longer than `max_tokens` is a part of its own. A batch that fits, and any batch
        where `max_tokens` is None, stays as it is.
        """
        if max_tokens is None or self.mask.numel() <= max_tokens:
            return [self]
        lengths, order = self.mask.sum(dim=1).sort(descending=True, stable=True)
        longest = lengths.tolist()  # the one wait for the device
        sizes = sizes_within(longest, max_tokens=max_tokens)
        batch = self if longest[0] == longest[-1] else self.take(order)
        ends = torch.tensor(sizes).cumsum(0).tolist()
        return [batch._slice(end - size, end, longest[end - size]) for size, end in zip(sizes, ends, strict=True)]

    def take(self, order: Tensor) -> Batch:
        """Return the rows (n,) int64 in that order, as wide as they are."""
        return Batch(
            tokens=self.tokens[order],
            mask=self.mask[order],
            region=self.region[order],
            target=self.target[order],
            index=self.index[order],
            features=None if self.features is None else self.features[order],
            scores=None if self.scores is None else self.scores[order],
            weight=None if self.weight is None else self.weight[order],
        )

    def _slice(self, first: int, end: int, n_columns: int) -> Batch:
        features = self.features
        return Batch(
            tokens=self.tokens[first:end, :n_columns].contiguous(),
            mask=self.mask[first:end, :n_columns].contiguous(),
            region=self.region[first:end, :n_columns].contiguous(),
            target=self.target[first:end],
            index=self.index[first:end],
            features=None if features is None else trimmed(features[first:end], n_columns).contiguous(),
            scores=None if self.scores is None else self.scores[first:end],
            weight=None if self.weight is None else self.weight[first:end],
        )

    def __len__(self) -> int:
        """Return B."""
        return len(self.target)


def trimmed(features: Tensor, n_columns: int) -> Tensor:
    """Return features of each token (B, L, D) as (B, n_columns, D), pooled ones (B, D) as they are."""
    return features if features.dim() == 2 else features[:, :n_columns]


def sizes_within(lengths: Sequence[int], *, max_tokens: int | None, max_rows: int | None = None) -> list[int]:
    """Return how many rows each of the batches has into which rows of descending `lengths` are cut, in their order.

    A batch has at most `max_rows` rows, and at most `max_tokens` tokens (rows times its longest) unless it is a
    single row; None is no limit.
    """
    sizes: list[int] = []
    first = 0
    while first < len(lengths):
        size = len(lengths) - first
        if max_rows is not None:
            size = min(size, max_rows)
        if max_tokens is not None:
            size = min(size, max(1, max_tokens // lengths[first]))
        sizes.append(size)
        first += size
    return sizes
