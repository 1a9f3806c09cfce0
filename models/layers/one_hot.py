"""Products with one-hot matrices, of which only slices are ever built, and the Hamming distances they give."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.layers.kept import kept

MAX_ONE_HOT = 2**24  # entries of the one-hot form held at once: 128 MiB


class OneHot:
    """Products with the (N, P) one-hot matrix of tokens (N, L)."""

    def __init__(self, tokens: Tensor, columns: Tensor) -> None:
        self.tokens = tokens
        self.columns = columns  # (L, n_tokens) bool: which entries are the P columns

    def _row_slices(self) -> Iterator[tuple[slice, Tensor]]:
        n_tokens = self.columns.shape[1]
        for rows in slices(len(self.tokens), self.columns.numel()):
            yield rows, functional.one_hot(self.tokens[rows], n_tokens)[:, self.columns]

    def gram(self, weight: Tensor | None = None) -> Tensor:
        """How often each two columns are 1 in the same sequence (P, P) float64, or the sum of their weights (N,)."""
        if weight is not None:
            parts = ((rows, part.double()) for rows, part in self._row_slices())
            return sum(part.T @ (weight[rows, None] * part) for rows, part in parts)  # type: ignore
        return kept("gram", self._rows(), self._gram).double()

    def _gram(self) -> Tensor:
        # Counts below 2^24, which float32 holds without rounding.
        return sum((part.float().T @ part.float()).double() for _, part in self._row_slices()).float()  # type: ignore

    def transposed_times(self, vector: Tensor) -> Tensor:
        """Sums (P,) of vector (N,), or (P, K) of (N, K), over the sequences with a 1 in each column."""
        return sum(part.double().T @ vector[rows].double() for rows, part in self._row_slices())  # type: ignore

    def transposed_times_kept(self, vector: Tensor) -> Tensor:
        """`transposed_times` of a vector (N,) that is the same in run after run, as targets are."""
        return kept("sums", [*self._rows(), vector], lambda: self.transposed_times(vector))

    def kernel(self) -> Tensor:
        """In how many of the P columns each two sequences are both 1 (N, N) float64."""
        return _n_common_kept(self.tokens, self.columns)

    def _rows(self) -> list[Tensor]:
        return [_compact(self.tokens, self.columns), self.columns]


def n_common(rows: Tensor, others: Tensor, columns: Tensor, encoded: Tensor | None = None) -> Tensor:
    """At how many positions two sequences have the same token, of those that `columns` (L, n_tokens) bool allows.

    Args:
        rows: (A, L) int64.
        others: (B, L) int64; where it is the same object as `rows`, half the encoding is saved.
        columns: of the one-hot form.
        encoded: (B, P) the one-hot form of `others`, where it is known.

    Returns:
        (A, B) float64, exact also under autocast: float32 adds whole numbers up to 2^24 without rounding.
    """
    n_tokens = columns.shape[1]
    if encoded is not None:
        parts = [_product(_one_hot(rows[part], columns), encoded) for part in slices(len(rows), columns.numel())]
        return torch.cat(parts).double() if parts else encoded.new_zeros(0, len(others), dtype=torch.float64)
    common = rows.new_zeros(len(rows), len(others), dtype=torch.float64)
    for positions in slices(rows.shape[1], max(len(rows), len(others)) * n_tokens):
        part = _one_hot(rows[:, positions], columns[positions])
        other = part if others is rows else _one_hot(others[:, positions], columns[positions])
        common += _product(part, other)
    return common


def _n_common_kept(rows: Tensor, columns: Tensor) -> Tensor:
    """`n_common` of rows among themselves, which are the same in run after run."""
    of = [_compact(rows, columns), columns]
    return kept("common", of, lambda: n_common(rows, rows, columns).float()).double()


def _compact(tokens: Tensor, columns: Tensor) -> Tensor:
    return tokens.to(torch.uint8) if columns.shape[1] <= 256 else tokens


def _one_hot(tokens: Tensor, columns: Tensor) -> Tensor:
    return functional.one_hot(tokens, columns.shape[1])[:, columns].float()


def _product(rows: Tensor, others: Tensor) -> Tensor:
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ others.T


class HammingTo:
    """Hamming distances to N sequences: positions that differ, those that only the longer one of two has included.

    Args:
        tokens: (N, L) int64, 0 at padding, which counts as a residue of its own: a position beyond the end of one
            sequence alone counts one, and one beyond the end of both counts nothing, however far they are padded.
        n_tokens: how many tokens there are.
    """

    def __init__(self, tokens: Tensor, n_tokens: int) -> None:
        self.device = tokens.device
        self._length = tokens.shape[1]
        self._varies = (tokens != tokens[:1]).any(dim=0)
        self._constant = tokens[0, ~self._varies]
        self._tokens = tokens[:, self._varies]
        self._columns = torch.zeros(self._tokens.shape[1], n_tokens, dtype=torch.bool, device=tokens.device)
        self._columns[torch.arange(len(self._columns), device=tokens.device), self._tokens] = True
        # Encoded once where it is small: predictions come in many batches.
        is_small = len(tokens) * self._columns.numel() <= MAX_ONE_HOT
        self._one_hot = _one_hot(self._tokens, self._columns) if is_small else None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Distances (B, N) float64 of sequences (B, L') int64, padded to any length."""
        n_beyond = tokens[:, self._length :].count_nonzero(dim=1)
        here = functional.pad(tokens, (0, max(0, self._length - tokens.shape[1])))[:, : self._length]
        n_other = (here[:, ~self._varies] != self._constant).sum(dim=1) + n_beyond
        n_alike = n_common(here[:, self._varies], self._tokens, self._columns, self._one_hot)
        return (n_other + len(self._columns))[:, None] - n_alike

    def among_themselves(self) -> Tensor:
        """Distances (N, N) float64 of the N sequences."""
        return len(self._columns) - _n_common_kept(self._tokens, self._columns)


def slices(length: int, entries_each: int) -> Iterator[slice]:
    """Cut `length` items of `entries_each` entries into slices of at most MAX_ONE_HOT entries, or of one item."""
    step = max(1, MAX_ONE_HOT // max(1, entries_each))
    return (slice(start, start + step) for start in range(0, length, step))


def seen_residues(residues: NDArray[np.uint8], training: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What training sequences (N, L) say anything about of others (M, L), codes padded with zeros: codes (M, P).

    The P positions are those at which the M sequences differ from each other and the N do as well. A residue that none
    of the N has at its position is 0: to a model on one-hot residues all such are alike.
    """
    differ = np.flatnonzero((residues != residues[0]).any(axis=0))
    known = np.zeros((len(residues), len(differ)), dtype=np.uint8)
    for place, position in enumerate(differ.tolist()):
        is_seen = np.bincount(training[:, position], minlength=256) > 0
        if is_seen.sum() > 1:
            column = residues[:, position]
            known[:, place] = np.where(is_seen[column], column, 0)
    return known
