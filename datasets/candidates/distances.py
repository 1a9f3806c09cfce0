"""How far a candidate lies from the nearest sequence that a model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from datasets.batches.window import LengthLimit, cut_with_lengths
from datasets.sequences.alphabet import ALPHABET, GAP
from datasets.task import Task

_ENTRIES = 2**24  # of a matrix that is built at a time: 64 MiB
_AT_ONCE = 512  # sequences that a candidate is aligned with between two calls of `check`
_LETTERS = ALPHABET + GAP
_CODE = np.zeros(256, dtype=np.int64)  # number of a residue; 0 for none
_CODE[list(_LETTERS.encode())] = np.arange(1, 1 + len(_LETTERS))


class TrainingSequences:
    """Training sequences, residues (M, L) uint8 in ASCII, zeros behind lengths (M,), to measure distances from.

    Candidates are compared with them as the model sees both: cropped, and cut where they are too long.
    """

    def __init__(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        *,
        task: Task,
        crop: str | None,
        limit: LengthLimit,
    ) -> None:
        self._cut = partial(cut_with_lengths, task=task, crop=crop, limit=limit)
        kept, kept_lengths = self._cut(residues, lengths)
        self._groups = [_Group(kept[kept_lengths == length, :length]) for length in np.unique(kept_lengths).tolist()]

    def distance(
        self, residues: NDArray[np.uint8], lengths: NDArray[np.int64], check: Callable[[], None] = lambda: None
    ) -> NDArray[np.int32]:
        """Return the distance (n,) to the nearest training sequence.

        Hamming's to those of a candidate's length; Levenshtein's to the others, which are looked at only where one of
        them can be nearer. That may last: `check` is called now and then, and what it raises ends it.
        """
        kept, kept_lengths = self._cut(residues, lengths)
        nearest = np.full(len(kept), np.iinfo(np.int32).max, dtype=np.int32)
        for group in self._groups:
            same = np.flatnonzero(kept_lengths == group.length)
            if len(same):
                nearest[same] = group.hamming(kept[same, : group.length], check)
        if len(self._groups) == 1 and (kept_lengths == self._groups[0].length).all():
            return nearest
        for row, length in enumerate(kept_lengths.tolist()):
            nearest[row] = self._nearest_of_other_lengths(kept[row, :length], int(nearest[row]), check)
        return nearest

    def _nearest_of_other_lengths(self, candidate: NDArray[np.uint8], limit: int, check: Callable[[], None]) -> int:
        """Return Levenshtein's distance from a candidate (L,) to the nearest sequence of another length, or `limit`.

        The number of residues that one of two sequences has and the other lacks is a lower bound of their distance.
        The sequence with the smallest bound is aligned first, since it is often the nearest; of the others, only those
        whose bound is below the smallest distance so far.
        """
        texts, lengths, counts = self._texts
        longer = np.abs(lengths - len(candidate))
        lacking = (np.abs(counts - _count(candidate)).sum(axis=1) + longer) // 2
        at_least = np.where(longer > 0, lacking, limit)
        order = np.argsort(at_least, kind="stable")
        for rows in np.split(order, range(1, len(order), _AT_ONCE)):
            check()
            near = rows[at_least[rows] < limit]
            if not len(near):
                break
            few = [texts[i] for i in near.tolist()]
            found = process.cdist(
                [candidate.tobytes()], few, scorer=Levenshtein.distance, score_cutoff=limit - 1, dtype=np.int32
            )
            limit = min(limit, int(found.min()))
        return limit

    @cached_property
    def _texts(self) -> tuple[list[bytes], NDArray[np.int64], NDArray[np.int32]]:
        """The M distinct sequences, their lengths (M,), and how often each residue stands in them (M, 24)."""
        texts = list(dict.fromkeys(row.tobytes() for group in self._groups for row in group.residues))
        counts = np.stack([_count(np.frombuffer(text, dtype=np.uint8)) for text in texts])
        return texts, np.array([len(text) for text in texts]), counts


def _count(residues: NDArray[np.uint8]) -> NDArray[np.int32]:
    """How often each residue, and the gap, stands in a sequence (L,): (24,), after a column for none."""
    return np.bincount(_CODE[residues], minlength=1 + len(_LETTERS)).astype(np.int32)


class _Group:
    """The distinct training sequences (M, L) of one length."""

    def __init__(self, residues: NDArray[np.uint8]) -> None:
        self.residues = np.unique(residues, axis=0)
        self.length = residues.shape[1]
        is_constant = (residues == residues[0]).all(axis=0)
        self._constant, self._varied = np.flatnonzero(is_constant), np.flatnonzero(~is_constant)

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """The column (V, 24) of each residue at each varied position in the one-hot form, -1 where none has it."""
        codes = _CODE[self.residues[:, self._varied]]
        columns = np.full((len(self._varied), 1 + len(_LETTERS)), -1, dtype=np.int64)
        used = np.zeros(columns.shape, dtype=np.bool_)
        used[np.arange(len(self._varied)), codes] = True
        columns[used] = np.arange(used.sum())
        return columns

    def _one_hot(self, residues: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, P): the pairs of position and residue that occur in training."""
        columns = self._columns[np.arange(len(self._varied)), _CODE[residues[:, self._varied]]]
        n_columns = int(self._columns.max(initial=-1)) + 1
        matrix = np.zeros((len(residues), n_columns + 1), dtype=np.float32)
        matrix[np.arange(len(residues))[:, None], columns] = 1  # -1 is the last one, which is dropped
        return matrix[:, :n_columns]

    @cached_property
    def _references(self) -> Sequence[NDArray[np.float32]]:
        """The one-hot forms of all sequences, in parts, where they take little enough to be kept."""
        return list(self._parts())

    def _parts(self) -> Iterator[NDArray[np.float32]]:
        n_rows = max(1, _ENTRIES // max(1, int(self._columns.max(initial=0)) + 1))
        for first in range(0, len(self.residues), n_rows):
            yield self._one_hot(self.residues[first : first + n_rows])

    def hamming(self, residues: NDArray[np.uint8], check: Callable[[], None]) -> NDArray[np.int32]:
        """The smallest number of differences (n,) between candidates (n, L) and any of the sequences."""
        import torch

        differs = residues[:, self._constant] != self.residues[0, self._constant]
        fixed: NDArray[np.int32] = np.count_nonzero(differs, axis=1).astype(np.int32)
        if not len(self._varied):
            return fixed
        n_entries = len(self.residues) * (int(self._columns.max()) + 1)
        references = self._references if n_entries <= 2 * _ENTRIES else self._parts()
        matches = np.zeros(len(residues), dtype=np.float32)
        for reference in references:
            right = torch.from_numpy(np.ascontiguousarray(reference)).T
            n_rows = max(16, _ENTRIES // 8 // len(reference))
            for first in range(0, len(residues), n_rows):
                check()
                rows = slice(first, first + n_rows)
                most = (torch.from_numpy(self._one_hot(residues[rows])) @ right).amax(dim=1).numpy()
                np.maximum(matches[rows], most, out=matches[rows])
        return fixed + len(self._varied) - matches.astype(np.int32)
