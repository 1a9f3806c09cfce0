"""Aligned sequences without their gaps and chains with linkers, as language models see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import SequenceError
from datasets.sequences.alphabet import GAP
from datasets.sequences.chains import DIVIDER, LINKER, N_LINKER, Chains

_GAP = ord(GAP)
_GAPS = GAP.encode()


def ungapped(sequence: bytes) -> bytes:
    """Return the residues (ASCII) of a sequence that may be aligned."""
    return sequence.replace(_GAPS, b"")


def protein(columns: bytes, chains: Chains | None = None) -> bytes:
    """Return the residues (ASCII) of a sequence that may be aligned, with `|` between its chains.

    They are equal for two that are one protein, wherever their gaps stand: V3- and V4- of a wild type with V at both.
    """
    if chains is None:
        return ungapped(columns)
    parts = (columns[start : start + n] for start, n in zip(chains.starts, chains.lengths, strict=True))
    return DIVIDER.encode().join(map(ungapped, parts))


def without_gaps(residues: NDArray[np.uint8], region: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return residues (N, L'), zeros behind the end, and the region (N, L') of aligned ones (N, L) without their gaps.

    A position of the region that a sequence lacks is no part of it any more. Where that leaves none, the region is what
    stands on either side of the positions that are gone, so that a mean over it is of something.

    Raises:
        SequenceError: A sequence has nothing but gaps.
    """
    is_gap = residues == _GAP
    if not is_gap.any():
        return residues, region
    is_residue = ~is_gap & (residues != 0)
    lengths = is_residue.sum(axis=1)
    if not lengths.all():
        raise SequenceError("A sequence has nothing but gaps in what the model sees of it", int(lengths.argmin()), ".")
    left = region & is_residue
    for row in np.flatnonzero(region.any(axis=1) & ~left.any(axis=1)).tolist():
        places = np.flatnonzero(is_residue[row] & (residues[row] != ord(LINKER)))
        after = np.searchsorted(places, np.flatnonzero(region[row]))
        left[row, places[np.maximum(after - 1, 0)]] = True
        left[row, places[np.minimum(after, len(places) - 1)]] = True
    order = np.argsort(~is_residue, axis=1, kind="stable")[:, : int(lengths.max())]
    is_inside = np.take_along_axis(is_residue, order, axis=1)
    kept = np.where(is_inside, np.take_along_axis(residues, order, axis=1), np.uint8(0))
    return kept, np.take_along_axis(left, order, axis=1) & is_inside


def with_linkers(
    residues: NDArray[np.uint8], region: NDArray[np.bool_], starts: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return residues and region, both (N, L), with a linker before each of the columns in which a chain starts.

    One of the first column, or beyond the last, has none: its chain is all that is seen. A linker is no part of the
    region.
    """
    inside = [start for start in starts if 0 < start < residues.shape[1]]
    places = np.repeat(np.array(inside, dtype=np.int64), N_LINKER)
    return np.insert(residues, places, ord(LINKER), axis=1), np.insert(region, places, False, axis=1)


def places_without_gaps(residues: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many residues stand before a place (N,) of each of the aligned sequences, residues (N, L)."""
    is_before = np.arange(residues.shape[1]) < places[:, None]
    found: NDArray[np.int64] = np.count_nonzero(is_before & (residues != _GAP), axis=1).astype(np.int64)
    return found
