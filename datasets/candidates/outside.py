"""For which reasons a prediction is a leap: what a candidate or its prediction has that no training row had."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from datasets.batches.window import LengthLimit, cut_with_lengths
from datasets.candidates.training_domain import ALWAYS_GAP, VARIED, Familiar
from datasets.sequences.alphabet import ALPHABET, GAP
from datasets.sequences.codes import translated
from datasets.sequences.mutation_counts import find_mutations
from datasets.task import Task

LENGTH, RESIDUES, POSITIONS, MUTATIONS, RANGE = 1, 2, 4, 8, 16
"""The bits of `Outside`."""
_NAMES = ((LENGTH, "length"), (RESIDUES, "alphabet"), (POSITIONS, "positions"), (MUTATIONS, "mutations"))
_REASONS = (*_NAMES, (RANGE, "range"))
N_COMBINATIONS = 2 ** len(_REASONS)
_BLOCK_ROWS = 8192


def outside_reasons(bits: int) -> str:
    """Return `length`, `alphabet`, `positions`, `mutations` and `range`, as far as they apply, divided by spaces."""
    return " ".join(name for bit, name in _REASONS if bits & bit)


def familiar_of(
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    target: NDArray[np.float32],
    *,
    task: Task,
    crop: str | None,
    limit: LengthLimit,
) -> Familiar:
    """Look at training rows: whole residues (M, L) in ASCII, zeros behind lengths (M,), and targets (M,)."""
    kept, kept_lengths = cut_with_lengths(residues, lengths, task=task, crop=crop, limit=limit)
    is_used = np.bincount(kept.ravel(), minlength=256) > 0
    return Familiar(
        lengths=(int(kept_lengths.min()), int(kept_lengths.max())),
        alphabet="".join(letter for letter in ALPHABET + GAP if is_used[ord(letter)]),
        whole=_template(residues, lengths),
        seen=_template(kept, kept_lengths),
        most_mutations=_most_mutations(residues, lengths, task.wild_type),
        targets=(float(target.min()), float(target.max())),
    )


class Outside:
    """Says of candidates for which reasons they are unlike the training rows, as the model sees both."""

    def __init__(self, familiar: Familiar, *, task: Task, crop: str | None, limit: LengthLimit) -> None:
        self._familiar, self._task = familiar, task
        self._cut = partial(cut_with_lengths, task=task, crop=crop, limit=limit)
        self._is_new = np.ones(256, dtype=np.uint8)
        self._is_new[list(familiar.alphabet.encode())] = 0
        self._is_new[0] = 0
        # What the model does not see of whole sequences matters too: no prediction tells mutations there.
        self._whole, self._seen = _Constant(familiar.whole), _Constant(familiar.seen)

    def __call__(
        self, residues: NDArray[np.uint8], lengths: NDArray[np.int64], prediction: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Return for each of n candidates (n, L), with prediction (n,) in the assay's unit, the sum of the reasons.

        LENGTH: it is shorter or longer than all training sequences. RESIDUES: it holds a residue that none of them
        has. POSITIONS: it differs from them at a position where all of them are the same (those of their most frequent
        length, if it has that length). MUTATIONS: it has more than any of them; never where no wild type is known.
        RANGE: the prediction lies above the largest or below the smallest training target.
        """
        known = self._familiar
        kept, kept_lengths = self._cut(residues, lengths)
        shortest, longest = known.lengths
        lowest, highest = known.targets
        reasons = {
            LENGTH: (kept_lengths < shortest) | (kept_lengths > longest),
            RESIDUES: translated(kept, self._is_new).any(axis=1),
            POSITIONS: self._whole.differs(residues, lengths) | self._seen.differs(kept, kept_lengths),
            MUTATIONS: self._has_more_mutations(residues, lengths),
            RANGE: (prediction < lowest) | (prediction > highest),
        }
        bits = np.zeros(len(lengths), dtype=np.uint8)
        for bit, applies in reasons.items():
            bits += np.uint8(bit) * applies
        return bits

    def _has_more_mutations(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        most, wild_type = self._familiar.most_mutations, self._task.wild_type
        if most is None or wild_type is None:
            return np.zeros(len(lengths), dtype=np.bool_)
        has_more = np.abs(lengths - len(wild_type)) > most  # each residue too many or too few is one at least
        rest = np.flatnonzero(~has_more)
        if len(rest):
            has_more[rest] = find_mutations(residues[rest], lengths[rest], wild_type).counts > most
        return has_more


class _Constant:
    """Where all sequences of a length have the same residue."""

    def __init__(self, template: str) -> None:
        letters = np.frombuffer(template.encode("ascii"), dtype=np.uint8)
        self._length = len(letters)
        self._positions = np.flatnonzero(letters != ord(VARIED))
        found = letters[self._positions]
        self._residues = np.where(found == ord(ALWAYS_GAP), np.uint8(ord(GAP)), found)

    def differs(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether candidates (n, L) of the same length have another one anywhere; False for others."""
        differs = np.zeros(len(lengths), dtype=np.bool_)
        same = np.flatnonzero(lengths == self._length)
        if len(same):
            differs[same] = (residues[np.ix_(same, self._positions)] != self._residues).any(axis=1)
        return differs


def _template(residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> str:
    """The residues at which all sequences of the most frequent length agree."""
    usual = int(np.bincount(lengths).argmax())
    same = residues[lengths == usual, :usual]
    found = np.where(same[0] == ord(GAP), np.uint8(ord(ALWAYS_GAP)), same[0])
    return np.where((same == same[0]).all(axis=0), found, np.uint8(ord(VARIED))).tobytes().decode("ascii")


def _most_mutations(residues: NDArray[np.uint8], lengths: NDArray[np.int64], wild_type: str | None) -> int | None:
    if wild_type is None:
        return None
    blocks = [slice(first, first + _BLOCK_ROWS) for first in range(0, len(lengths), _BLOCK_ROWS)]
    return max(int(find_mutations(residues[rows], lengths[rows], wild_type).counts.max()) for rows in blocks)
