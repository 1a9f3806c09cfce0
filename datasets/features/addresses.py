"""The rows of a call for features, the distinct sequences among them, and what addresses these."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.common.errors import SequenceError
from datasets.features.encoder import Encoder, Scope


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Addresses:
    """N rows as n distinct entries, in the order of their first rows.

    hashes: (n, 32) uint8, SHA-256. entry: (N,) int64, the entry of each row. example: (n,) int64, a row of each entry.
    """

    hashes: NDArray[np.uint8]
    entry: NDArray[np.int64]
    example: NDArray[np.int64]

    def __len__(self) -> int:
        """Return n."""
        return len(self.example)


class Sequences:
    """N rows of tokens (N, T), any integer type, with mask and region (N, T) bool, all on the CPU.

    Raises:
        ValueError: The shapes differ, or a row has no residue.
    """

    def __init__(self, encoder: Encoder, tokens: Tensor, mask: Tensor, region: Tensor) -> None:
        if not tokens.shape == mask.shape == region.shape or tokens.ndim != 2:
            raise ValueError(
                f"tokens {tuple(tokens.shape)}, mask {tuple(mask.shape)} and region {tuple(region.shape)}: "
                "expected the same (N, T)"
            )
        self.tokens = tokens
        self.lengths: NDArray[np.int64] = np.count_nonzero(mask.numpy(), axis=1)  # (N,) tokens, without padding
        self._n_prefix, self._n_suffix = encoder.n_prefix, encoder.n_suffix
        linker = getattr(encoder, "linker", None)
        self._linker = linker if linker is not None and bool((tokens == linker).any()) else None
        self._region = region
        if len(self.lengths) and self.lengths.min() <= self._n_prefix + self._n_suffix:
            raise ValueError(f"row {int(self.lengths.argmin())} has no residue, expected at least one")

    def addresses(self, scope: Scope) -> Addresses:
        """Return what is told apart in a scope: sequences, or sequences with their region."""
        return self._pairs if scope == "region" else self.distinct

    @cached_property
    def distinct(self) -> Addresses:
        """The distinct sequences of tokens, whatever the integer type and the padding of the call."""
        codes, stride = self.tokens.numpy().astype("<i4").tobytes(), 4 * self.tokens.shape[1]
        view = memoryview(codes)
        return _addresses(
            [
                hashlib.sha256(view[row * stride : row * stride + 4 * length]).digest()
                for row, length in enumerate(self.lengths.tolist())
            ]
        )

    @cached_property
    def _pairs(self) -> Addresses:
        region = np.ascontiguousarray(self._region.numpy())
        tokens = [self.distinct.hashes[entry].tobytes() for entry in self.distinct.entry.tolist()]
        lengths = self.lengths.tolist()
        return _addresses(
            [hashlib.sha256(tokens[i] + region[i, : lengths[i]].tobytes()).digest() for i in range(len(tokens))]
        )

    def positions(self, scope: Scope, rows: NDArray[np.int64], n_columns: int) -> Tensor:
        """Return the positions (n, n_columns) bool that a pooled scope averages over."""
        column = torch.arange(n_columns)
        last = torch.from_numpy(self.lengths[rows])[:, None] - self._n_suffix
        residues = (column >= self._n_prefix) & (column < last)
        if self._linker is not None:
            known = self.tokens[torch.from_numpy(rows), :n_columns]
            residues[:, : known.shape[1]] &= known != self._linker
        if scope == "region":
            n_known = min(n_columns, self._region.shape[1])
            residues[:, n_known:] = False
            residues[:, :n_known] &= self._region[torch.from_numpy(rows), :n_known]
        return residues

    def has_positions(self, scope: Scope) -> NDArray[np.bool_]:
        """Return which entries (n,) of a pooled scope have anything to average over."""
        has: NDArray[np.bool_] = (
            self.positions(scope, self.addresses(scope).example, self.tokens.shape[1]).any(1).numpy()
        )
        return has

    def check_region(self) -> None:
        """Raise a SequenceError where a row has no residue in its region."""
        for entry in np.flatnonzero(~self.has_positions("region")).tolist():
            row = int(self._pairs.example[entry])
            raise SequenceError(
                f"Sequence {row} has no residue in its mutated region, expected at least one to average over",
                row,
                "; use another pooling (model.pooling=mean) or a crop that keeps the region.",
            )


def _addresses(digests: list[bytes]) -> Addresses:
    entries: dict[bytes, int] = {}
    entry = np.array([entries.setdefault(digest, len(entries)) for digest in digests], dtype=np.int64)
    example = np.unique(entry, return_index=True)[1].astype(np.int64)
    hashes = np.frombuffer(b"".join(entries), dtype=np.uint8).reshape(-1, 32)
    return Addresses(hashes=hashes, entry=entry, example=example)
