"""Levenshtein's distance from one sequence to many, with bit vectors (Myers 1999; Hyyro 2003 for long patterns)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.alphabet import ALPHABET

_BATCH = 512
_WORD = 64
_CODE = np.zeros(256, dtype=np.int64)
_CODE[list(ALPHABET.encode())] = np.arange(1, 1 + len(ALPHABET))


def nearest_levenshtein(
    candidate: NDArray[np.uint8], residues: NDArray[np.uint8], counts: NDArray[np.int32], limit: int
) -> int:
    """Return the distance from a candidate (L,) to the nearest of M sequences (M, L'), or `limit` if none is nearer.

    `counts` (M, 23) are the numbers of each residue of the alphabet in the sequences, after a column for none. The
    distance is at least the number of residues that one has and the other lacks, so most need not be looked at.
    """
    own = np.bincount(_CODE[candidate], minlength=counts.shape[1]).astype(np.int32)
    difference = counts - own
    at_least = np.maximum(np.maximum(difference, 0).sum(axis=1), np.maximum(-difference, 0).sum(axis=1))
    order = np.argsort(at_least, kind="stable")
    nearest = limit
    size = 16
    first = 0
    while first < len(order) and at_least[order[first]] < nearest:
        rows = order[first : first + size]
        rows = rows[at_least[rows] < nearest]
        nearest = min(nearest, int(levenshtein(candidate, residues[rows]).min()))
        first += size
        size = min(2 * size, _BATCH)
    return nearest


def levenshtein(pattern: NDArray[np.uint8], texts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the distances (M,) from a pattern (L,), L > 0, to texts (M, L') of one length."""
    n_words = -(-len(pattern) // _WORD)
    equal = np.zeros((256, n_words), dtype=np.uint64)
    for position, code in enumerate(pattern.tolist()):
        equal[code, position // _WORD] |= np.uint64(1 << (position % _WORD))
    m = len(texts)
    plus = np.full((n_words, m), np.iinfo(np.uint64).max, dtype=np.uint64)
    minus = np.zeros((n_words, m), dtype=np.uint64)
    one, top = np.uint64(1), np.uint64(_WORD - 1)
    last = np.uint64((len(pattern) - 1) % _WORD)
    score = np.full(m, len(pattern), dtype=np.int64)
    for column in range(texts.shape[1]):
        matches = equal[texts[:, column]]
        # What enters the lowest bit: the first row of the table counts up by one with each column.
        plus_in, minus_in = np.full(m, one), np.zeros(m, dtype=np.uint64)
        for word in range(n_words):
            up, down = plus[word], minus[word]
            eq = matches[:, word]
            x_v = eq | down
            eq = eq | minus_in
            x_h = (((eq & up) + up) ^ up) | eq
            plus_h = down | ~(x_h | up)
            minus_h = up & x_h
            if word == n_words - 1:
                score += ((plus_h >> last) & one).astype(np.int64)
                score -= ((minus_h >> last) & one).astype(np.int64)
            plus_out, minus_out = plus_h >> top, minus_h >> top
            plus_h = (plus_h << one) | plus_in
            minus_h = (minus_h << one) | minus_in
            plus[word] = minus_h | ~(x_v | plus_h)
            minus[word] = plus_h & x_v
            plus_in, minus_in = plus_out, minus_out
    return score
