"""Sequences as a model sees them: cut, tokenised, and in batches of about the same length for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch, sizes_within
from datasets.batches.loader import BatchLoader, FixedOrder
from datasets.batches.row_tables import RowTables
from datasets.batches.window import LengthLimit, cut, place_windows
from datasets.embeddings.features import embedding_features
from datasets.embeddings.store import Embeddings
from datasets.features.encoder import Features, Scope
from datasets.sequences.gaps import places_without_gaps, with_linkers, without_gaps
from datasets.sequences.tokenizer import Tokenizer, keeps_gaps, links_chains
from datasets.task import Task

_EVALUATION_FACTOR = 4  # without gradients a batch needs a fraction of the memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoded:
    """N sequences on the CPU.

    tokens: (N, T) uint8, 0 at padding.
    mask: (N, T) bool, False at padding. region: (N, T) bool, True where the variants differ, never at padding.
    lengths: (N,) int64, tokens without padding.
    """

    tokens: Tensor
    mask: Tensor
    region: Tensor
    lengths: Tensor


def encode_sequences(
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    *,
    task: Task,
    tokenizer: Tokenizer,
    crop: str | None,
    limit: LengthLimit,
) -> Encoded:
    """Cut and tokenise residues (N, L) in ASCII, zero-padded, with `lengths` (N,).

    Gaps of aligned sequences are dropped, and the region with them, for a tokenizer that has no token for them. Chains
    have linkers between them for one that has a token for these.

    Raises:
        UserError: Those of `datasets.batches.window.place_windows`; or nothing but gaps is left of a sequence.
    """
    kept, region = cut(residues, lengths, task=task, crop=crop, limit=limit)
    if task.chains is not None and links_chains(tokenizer):
        start = int(place_windows(lengths[:1], task=task, crop=crop, limit=limit)[0][0])
        kept, region = with_linkers(kept, region, [first - start for first in task.chains.starts[1:]])
    if task.aligned_length is not None and not keeps_gaps(tokenizer):
        kept, region = without_gaps(kept, region)
    tokens, mask = tokenizer.encode(kept)
    region_of_tokens = torch.zeros(mask.shape, dtype=torch.bool)
    region_of_tokens[:, tokenizer.n_prefix : tokenizer.n_prefix + region.shape[1]] = torch.from_numpy(region)
    return Encoded(tokens=tokens, mask=mask, region=region_of_tokens & mask, lengths=mask.sum(dim=1))


def selected(scores: NDArray[np.float32] | None, used: Sequence[int]) -> Tensor | None:
    """Return the columns of scores (N, K) that a model sees (N, len(used)); None where it sees none."""
    if not used:
        return None
    assert scores is not None, "a config with score columns goes with a split that has them"
    return torch.from_numpy(np.ascontiguousarray(scores[:, list(used)]))


def embedded(
    embeddings: Embeddings,
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    encoded: Encoded,
    scope: Scope,
    *,
    task: Task,
    crop: str | None,
    limit: LengthLimit,
) -> Features:
    """Return features of N sequences, residues (N, L) of `lengths` (N,), from their embeddings, of what is `encoded` of
    them. Embeddings are of sequences without gaps.

    Raises:
        SequenceError: A sequence has no residue in its region, and `scope` is "region".
    """
    starts, stops = place_windows(lengths, task=task, crop=crop, limit=limit)
    region = encoded.region.numpy()
    if task.aligned_length is not None:
        _, region = without_gaps(*cut(residues, lengths, task=task, crop=crop, limit=limit))
        starts, stops = places_without_gaps(residues, starts), places_without_gaps(residues, stops)
    return embedding_features(embeddings, starts, stops, region, scope)


def longest_first(lengths: Tensor, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows (n,) in the order of evaluation: those of one length stay in their order."""
    return rows[np.argsort(-lengths.numpy()[rows], kind="stable")]


def evaluation_loader(
    data: Batch,
    lengths: Tensor,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    max_tokens: int | None,
    features: Features | None,
    tables: RowTables | None = None,
) -> BatchLoader:
    """Return batches of rows (n,), which are in the order of `longest_first`.

    A batch has at most four times `batch_size` rows and, padding included, `max_tokens` tokens (None: any number).
    """
    chosen = torch.from_numpy(rows)
    sizes = sizes_within(lengths[chosen].tolist(), max_tokens=max_tokens, max_rows=batch_size * _EVALUATION_FACTOR)
    return BatchLoader(
        data=data, lengths=lengths, sampler=FixedOrder(chosen), sizes=sizes, features=features, tables=tables
    )
