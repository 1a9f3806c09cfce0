"""Scores of variants that need no training: how like they are to the wild type."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from datasets.sequences.mutation_counts import common_ends
from models.layers.amino_acids import BLOSUM62, LETTERS

Bytes = NDArray[np.uint8]

_BLOSUM_GAP = 8  # of each residue without a partner, in the matrix's half bits
_ENTRIES = 2**22  # of the alignment's table held at once


def levenshtein(residues: Bytes, lengths: NDArray[np.int64], wild_type: Bytes) -> NDArray[np.int64]:
    """Minus the fewest residues that are changed, inserted or removed between each sequence and the wild type.

    Args:
        residues: (N, L) ASCII codes, zeros behind the end.
        lengths: (N,) residues.
        wild_type: (W,) ASCII codes.

    Returns:
        (N,), 0 for the wild type itself and less for all others.
    """
    texts = [row[:length].tobytes() for row, length in zip(residues, lengths.tolist(), strict=True)]
    scores: NDArray[np.int64] = -process.cdist(
        [wild_type.tobytes()], texts, scorer=Levenshtein.distance, dtype=np.int64
    )[0]
    return scores


def blosum62(residues: Bytes, lengths: NDArray[np.int64], wild_type: Bytes) -> NDArray[np.int64]:
    """Score (N,) of the best global alignment of each sequence with the wild type by BLOSUM62, in half bits.

    A residue without a partner costs 8. For a variant with substitutions alone this is nearly always the sum of the
    matrix's entries over the positions. The arguments are those of `levenshtein`; letters that the matrix lacks
    count as its X.
    """
    known = np.full(256, LETTERS.index("X"))
    known[[ord(letter) for letter in LETTERS]] = range(len(LETTERS))
    return _align(residues, lengths, wild_type, BLOSUM62[known][:, known])


BASELINES: Mapping[str, Callable[[Bytes, NDArray[np.int64], Bytes], NDArray[np.int64]]] = {
    "levenshtein": levenshtein,
    "blosum62": blosum62,
}
"""By the names that FLIP gives them. Closer to the wild type is predicted to be fitter."""


def _align(
    residues: Bytes, lengths: NDArray[np.int64], wild_type: Bytes, scores: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Scores (N,) of the best global alignments (Needleman and Wunsch 1970) with a cost for each unpaired residue.

    Residues that all sequences begin or end with, as the wild type does, are paired with each other in a best alignment
    if none scores higher with another residue than with itself (an X does): they are added up without the table.
    """
    shortest = int(lengths.min(initial=len(wild_type)))
    n_first, n_last = common_ends(residues, lengths, wild_type, shortest)
    is_best = scores[wild_type, wild_type] >= scores[wild_type].max(axis=1)
    n_first, n_last = _leading(is_best[:n_first]), _leading(is_best[::-1][:n_last])
    middle = wild_type[n_first : len(wild_type) - n_last]
    outside = np.concatenate([wild_type[:n_first], wild_type[len(wild_type) - n_last :]])
    common = int(scores[outside, outside].sum())
    inside = lengths - n_first - n_last
    found = np.empty(len(residues), dtype=np.int64)
    step = max(1, _ENTRIES // (len(middle) + 1))
    for start in range(0, len(residues), step):
        rows = slice(start, start + step)
        found[rows] = common + _align_rows(residues[rows, n_first:], inside[rows], middle, scores)
    return found


def _leading(flags: NDArray[np.bool_]) -> int:
    return len(flags) if flags.all() else int(flags.argmin())


def _align_rows(
    residues: Bytes, lengths: NDArray[np.int64], wild_type: Bytes, scores: NDArray[np.int32]
) -> NDArray[np.int64]:
    ramp = _BLOSUM_GAP * np.arange(len(wild_type) + 1)
    # best[:, j]: the residues so far with the wild type's first j.
    best = np.tile(-ramp, (len(residues), 1))
    for i in range(int(lengths.max(initial=0))):
        pair = scores[residues[:, i][:, None], wild_type]  # (n, W)
        longer = best - _BLOSUM_GAP
        longer[:, 1:] = np.maximum(longer[:, 1:], best[:, :-1] + pair)
        # Unpaired residues of the wild type: the best of all columns to the left, less one gap for each between.
        longer = np.maximum.accumulate(longer + ramp, axis=1) - ramp
        best = np.where((i < lengths)[:, None], longer, best)
    last: NDArray[np.int64] = best[:, -1]
    return last
