"""An alignment as a wild type sees it: its columns are the wild type's positions, its sequences have weights.

What is left out follows EVcouplings' defaults (Hopf et al. 2019, doi:10.1093/bioinformatics/bty862): sequences with
residues in fewer than half of the columns, then columns in which more than 30 % of the sequences have gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.one_hot import OnProgress, sequence_weights, weighted_counts
from datasets.alignments.read import CODES, GAP, MIN_SEQUENCES, UNCERTAIN, Alignment
from datasets.common.errors import UserError
from datasets.sequences.sites import written_sites

MIN_IDENTITY = 0.8
_WORD = 3  # residues by which a sequence's place in the wild type is found
_STRETCH = 12  # residues that are looked at for an insertion or deletion: it shifts all that lie behind it
_UNLIKE = 4  # at most so many of these agree where the sequence lies, and but for one all of them elsewhere
_MAX_GAPS_SHARE = 0.3
_THIN = 1.0  # effective sequences a column, below which ProteinGym calls an alignment's depth low


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Focus:
    """N sequences in the C columns that stand for positions of a wild type.

    codes: (N, C) uint8, places in `RESIDUES` or `GAP`. positions: (C,) int64, 0-based in the wild type, ascending.
    weights: (N,), their sum is the number of effective sequences. coverage: (C,), the share of the sequences that have
    a residue there; n_effective: (C,), the weight of these. offset: how many residues of the wild type stand before
    the focus sequence, negative where the focus sequence begins before it. sentences: what was found, warnings last;
    they name no file, since they are cached by its content.
    """

    codes: NDArray[np.uint8]
    positions: NDArray[np.int64]
    weights: NDArray[np.float64]
    coverage: NDArray[np.float64]
    n_effective: NDArray[np.float64]
    offset: int
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sequence lies in the wild type: residue i at position i + offset; `n_equal` of `n_shared` agree."""

    row: int
    offset: int
    n_equal: int
    n_shared: int
    n_shorter: int

    @property
    def is_wild_type(self) -> bool:
        return self.n_equal >= MIN_IDENTITY * self.n_shared and 2 * self.n_shared >= self.n_shorter


def align_focus(
    alignment: Alignment,
    wild_type: str,
    *,
    threads: int = 1,
    on_progress: OnProgress = lambda what, n_done, n_total: None,
) -> Focus:
    """Match an alignment to a wild type, by its first sequence or else by the one that agrees best.

    They are laid upon each other without gaps. A UserError says that no sequence agrees with the wild type in 80 % of
    the residues that both have, that a part of it agrees only where it is shifted, or that too few sequences or no
    columns are left.
    """
    where = alignment.where
    place = _find(alignment, wild_type)
    _refuse_shifted(alignment, place, wild_type)
    columns, residues = _residue_columns(alignment, place.row)
    positions = residues + place.offset
    inside = (positions >= 0) & (positions < len(wild_type))
    columns, positions = columns[inside], positions[inside]
    is_residue = CODES[np.frombuffer(wild_type.encode(), dtype=np.uint8)[positions]] != GAP
    columns, positions = columns[is_residue], positions[is_residue]
    codes = alignment.codes[:, columns]
    codes = codes[2 * (codes != GAP).sum(1) >= len(columns)]
    if len(codes) < MIN_SEQUENCES or not len(columns):
        raise UserError(
            f"{where}: {len(codes)} of {len(alignment.names)} sequences have residues in at least half of the "
            f"{len(columns)} columns of the wild type, expected {MIN_SEQUENCES} or more."
        )
    coverage = (codes != GAP).mean(0)
    kept = coverage >= 1 - _MAX_GAPS_SHARE
    gappy = positions[~kept]
    if not kept.any():
        raise UserError(f"{where}: in each column more than {_MAX_GAPS_SHARE:.0%} of the sequences have gaps.")
    codes, positions, coverage = codes[:, kept], positions[kept], coverage[kept]
    weights = sequence_weights(codes, GAP + 1, threads, on_progress)
    n_effective = weighted_counts(codes, weights, GAP).sum(1)
    unscored = np.setdiff1d(np.arange(len(wild_type)), np.concatenate([positions, gappy]))
    return Focus(
        codes=codes,
        positions=positions,
        weights=weights,
        coverage=coverage,
        n_effective=n_effective,
        offset=place.offset,
        sentences=(
            _about_focus(alignment, place),
            _about_depth(alignment, codes, weights, coverage, n_effective),
            *_about_left_out(alignment, gappy, unscored),
            *_warnings(positions, weights, n_effective),
        ),
    )


def _find(alignment: Alignment, wild_type: str) -> _Place:
    words: dict[bytes, list[int]] = {}
    wild = wild_type.encode()
    for position in range(len(wild) - _WORD + 1):
        words.setdefault(wild[position : position + _WORD], []).append(position)
    best: _Place | None = None
    for row in range(len(alignment.rows)):
        sequence = alignment.rows[row].translate(None, b"-.").upper()
        found = _place(row, sequence, wild, words)
        if found is not None and (best is None or found.n_equal > best.n_equal):
            best = found
        if best is not None and best.is_wild_type and (row == 0 or best.n_equal == len(wild)):
            break
    if best is None or not best.is_wild_type:
        nearest = (
            "no sequence resembles it"
            if best is None
            else f"the nearest, {alignment.names[best.row]!r}, agrees in {best.n_equal} of {best.n_shared} residues"
        )
        raise UserError(
            f"{alignment.where} does not hold the wild type of {len(wild)} residues: {nearest}, expected "
            f"{MIN_IDENTITY:.0%}; align relatives of the wild type, itself as the first."
        )
    return best


def _refuse_shifted(alignment: Alignment, place: _Place, wild_type: str) -> None:
    """Refuse, by a UserError, a sequence of which a stretch lies beside the one of the wild type that it is.

    Between them is an insertion or a deletion, so that the columns behind it stand for other positions than the wild
    type's: their scores would be those of other residues.
    """
    wild = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    own = np.frombuffer(alignment.rows[place.row].translate(None, b"-.").upper(), dtype=np.uint8)
    first, last = max(0, place.offset), min(len(wild), len(own) + place.offset)
    equal = wild[first:last] == own[first - place.offset : last - place.offset]
    if len(equal) < _STRETCH:
        return
    n_equal = np.convolve(equal, np.ones(_STRETCH, dtype=np.int64), mode="valid")
    of_own = np.lib.stride_tricks.sliding_window_view(own, _STRETCH)
    for start in (first + np.flatnonzero(n_equal <= _UNLIKE)).tolist():
        alike = np.flatnonzero((of_own == wild[start : start + _STRETCH]).sum(1) >= _STRETCH - 1)
        if len(alike):
            raise UserError(
                f"{alignment.where}: its sequence {alignment.names[place.row]!r} agrees with the wild type with an "
                f"offset of {place.offset}, but at positions {start + 1}-{start + _STRETCH} with one of "
                f"{start - int(alike[0])}: between them is an insertion or a deletion, so that columns would stand for "
                "other positions than the wild type's; align the wild type itself, as the first sequence."
            )


def _place(row: int, sequence: bytes, wild: bytes, words: dict[bytes, list[int]]) -> _Place | None:
    """Return the place where most words of a sequence agree with the wild type, None where none does."""
    votes: Counter[int] = Counter()
    for start in range(len(sequence) - _WORD + 1):
        votes.update(position - start for position in words.get(sequence[start : start + _WORD], ()))
    if not votes:
        return None
    offset = max(votes, key=lambda offset: (votes[offset], -abs(offset)))
    first, last = max(0, offset), min(len(wild), len(sequence) + offset)
    n_equal = sum(wild[p] == sequence[p - offset] for p in range(first, last))
    return _Place(row, offset, n_equal, last - first, min(len(wild), len(sequence)))


def _residue_columns(alignment: Alignment, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns in which a sequence has a residue, and the numbers of these residues, both (n,)."""
    characters = np.frombuffer(alignment.rows[row], dtype=np.uint8)
    is_gap = np.isin(characters, np.frombuffer(b"-.", dtype=np.uint8))
    is_column = np.ones(len(characters), dtype=np.bool_)
    if alignment.has_insertions:
        is_column = (characters < ord("a")) & (characters != ord("."))
    both = is_column & ~is_gap
    return (is_column.cumsum() - 1)[both], ((~is_gap).cumsum() - 1)[both]


def _about_focus(alignment: Alignment, place: _Place) -> str:
    which = "first sequence" if place.row == 0 else "sequence nearest to the wild type"
    at = f"its residue 1 is position {place.offset + 1} of the wild type"
    if place.offset < 0:
        at = f"its residue {1 - place.offset} is position 1 of the wild type"
    return (
        f"The alignment's {which}, {alignment.names[place.row]!r}, is matched to the wild type with an offset of "
        f"{place.offset}: {at}, and {place.n_equal} of {place.n_shared} residues agree."
    )


def _about_depth(
    alignment: Alignment,
    codes: NDArray[np.uint8],
    weights: NDArray[np.float64],
    coverage: NDArray[np.float64],
    n_effective: NDArray[np.float64],
) -> str:
    n, n_columns = codes.shape
    return (
        f"{len(alignment.names):,} sequences, of which {n:,} have residues in at least half of the columns; they count "
        f"as {weights.sum():,.1f} effective ones (those that agree in 80 % share one weight), in {n_columns} columns "
        f"with {n_effective.min():,.1f} to {n_effective.max():,.1f} effective sequences and residues in "
        f"{coverage.min():.0%} to {coverage.max():.0%} of the sequences."
    )


def _about_left_out(alignment: Alignment, gappy: NDArray[np.int64], unscored: NDArray[np.int64]) -> Iterator[str]:
    if len(gappy):
        yield (
            f"Left out, since more than {_MAX_GAPS_SHARE:.0%} of the sequences have gaps there: "
            f"{_positions(gappy)} of the wild type."
        )
    if len(unscored):
        yield f"No column of the alignment stands for {_positions(unscored)} of the wild type."
    if alignment.n_uncertain:
        letters = ", ".join(UNCERTAIN.decode())
        yield f"{alignment.n_uncertain:,} letters that stand for no one usual residue ({letters}) count as gaps."


def _warnings(
    positions: NDArray[np.int64], weights: NDArray[np.float64], n_effective: NDArray[np.float64]
) -> Iterator[str]:
    n_columns = len(positions)
    if weights.sum() < _THIN * n_columns:
        yield (
            f"Warning: the alignment is thin: {weights.sum():,.1f} effective sequences for {n_columns} columns, "
            f"expected at least {_THIN * n_columns:,.0f}; its scores, and couplings above all, are uncertain."
        )
    few = positions[n_effective < MIN_SEQUENCES]
    if len(few):
        yield f"Warning: fewer than {MIN_SEQUENCES} effective sequences have residues at {_positions(few)}."


def _positions(positions: NDArray[np.int64]) -> str:
    return f"position{'s' * (len(positions) > 1)} {written_sites((positions + 1).tolist())}"
