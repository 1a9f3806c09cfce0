"""The candidates that a batch is picked from: the best few thousand of any number, by acquisition."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.outside import outside_reasons
from datasets.sequences.codes import as_bytes
from datasets.sequences.gaps import protein
from datasets.sequences.mutation_counts import find_mutations
from search.prediction.ranking import Valuation, Valued
from search.prediction.writers import PredictedBlock
from search.suggestion.picker import Picker

LEAST = 4096
"""Candidates that are kept at least, if there are as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A candidate, or a control, with what is said of it.

    place: among all candidates, from 0. sites: positions, counted from 0, at which it differs from the wild type; empty
    where none is known. prediction: None of a control for which the model lacks something. low, high, std: what is
    calibrated, None where it says nothing. deviation: the last of these, where the candidate lies outside too. outside:
    why the prediction is a leap, empty where it is none.
    """

    sequence: str
    name: str
    place: int
    sites: tuple[int, ...]
    acquisition: float
    prediction: float | None
    low: float | None
    high: float | None
    std: float | None
    deviation: float | None
    outside: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """n candidates with what is predicted of them, their acquisitions (n,), and their places (n,) among all."""

    valued: Valued
    acquisition: NDArray[np.float64]
    place: NDArray[np.int64]

    def __len__(self) -> int:
        """Return n."""
        return len(self.valued)


class Pool:
    """Takes blocks, keeps the `most` best candidates that fit to what was `picked` before, and are not in `without`.

    Of several that are one protein, with gaps at other columns, it keeps the best. `after`: the acquisition and the
    place of the last candidate of the pool before, whose own are passed over.
    """

    def __init__(
        self,
        valuation: Valuation,
        most: int,
        picked: Picker,
        *,
        without: Iterable[str],
        after: tuple[float, int] | None,
    ) -> None:
        self._valuation, self._most, self._picked = valuation, most, picked
        self._without, self._after = frozenset(map(self._protein, without)), after
        self._kept: list[Pick] = []
        self._has_dropped = False

    def add(self, block: Scored) -> None:
        """Keep those of a block that are among the best so far; its blocks come in their order."""
        value, place = block.acquisition, block.place
        is_in = np.ones(len(value), dtype=np.bool_)
        if self._after is not None:
            last, at = self._after
            is_in = (value < last) | ((value == last) & (place > at))
        if len(self._kept) == self._most:
            # An equal one comes later, and does not displace the last.
            is_better = value > self._kept[-1].acquisition
            self._has_dropped |= bool((is_in & ~is_better).any())
            is_in &= is_better
        rows = np.flatnonzero(is_in)
        if not len(rows):
            return
        # Some at a time, the best first: those that do not fit leave their room to others.
        rows = rows[np.argsort(-value[rows], kind="stable")]
        for start in range(0, len(rows), self._most):
            if len(self._kept) == self._most and value[rows[start]] <= self._kept[-1].acquisition:
                self._has_dropped = True
                return
            some = np.sort(rows[start : start + self._most])
            self._keep(choices(self._valuation, block.valued.take(some), value[some], place[some]))

    def best(self) -> tuple[list[Pick], tuple[float, int] | None]:
        """The kept ones, the best first, and where the next pool goes on; None where there is nothing more."""
        if not self._has_dropped or not self._kept:
            return self._kept, None
        return self._kept, (self._kept[-1].acquisition, self._kept[-1].place)

    def _keep(self, found: Sequence[Pick]) -> None:
        # What does not fit now never will: what was taken stays taken.
        fit = [one for one in found if self._picked.fits(one.sequence, one.sites)]
        once: dict[bytes, Pick] = {}
        for one in sorted([*self._kept, *fit], key=lambda one: (-one.acquisition, one.place)):
            once.setdefault(self._protein(one.sequence), one)
        every = [one for own, one in once.items() if own not in self._without]
        self._has_dropped |= len(every) > self._most
        self._kept = every[: self._most]

    def _protein(self, sequence: str) -> bytes:
        return protein(sequence.encode("ascii"), self._valuation.trained.task.chains)


def choices(
    valuation: Valuation,
    valued: Valued,
    acquisition: NDArray[np.float64],
    place: NDArray[np.int64],
) -> list[Pick]:
    """What is said of n candidates, with their acquisitions (n,) and places (n,)."""
    predicted = valuation.complete(valued)
    candidates, wild_type = valued.candidates, valuation.trained.task.wild_type
    sites: list[tuple[int, ...]] = [()] * len(candidates)
    if wild_type is not None:
        found = find_mutations(candidates.residues, candidates.lengths, wild_type).sites
        sites = [tuple(np.flatnonzero(row).tolist()) for row in found]
    texts = [one.decode("ascii") for one in as_bytes(candidates.residues, candidates.lengths)]
    names = candidates.names or [""] * len(texts)
    low, high, std = _calibrated(predicted)
    deviation = None if predicted.calibrated is None else predicted.calibrated.std
    return [
        Pick(
            sequence=texts[row],
            name=names[row],
            place=int(place[row]),
            sites=sites[row],
            acquisition=float(acquisition[row]),
            prediction=float(predicted.prediction[row]),
            low=low[row],
            high=high[row],
            std=std[row],
            deviation=None if deviation is None else float(deviation[row]),
            outside=outside_reasons(int(predicted.outside[row])),
        )
        for row in range(len(texts))
    ]


def unpredicted(sequence: str, wild_type: str | None) -> Pick:
    """A control of which nothing is known but its sequence."""
    sites = []
    if wild_type is not None and len(wild_type) == len(sequence):
        sites = [site for site, pair in enumerate(zip(wild_type, sequence, strict=True)) if pair[0] != pair[1]]
    return Pick(
        sequence=sequence,
        name="",
        place=0,
        sites=tuple(sites),
        acquisition=0.0,
        prediction=None,
        low=None,
        high=None,
        std=None,
        deviation=None,
        outside="",
    )


def _calibrated(predicted: PredictedBlock) -> list[list[float | None]]:
    """Low, high and deviation of each; None where they are infinite, or the candidate lies outside."""
    found, is_outside = predicted.calibrated, predicted.outside > 0
    if found is None:
        return [[None] * len(is_outside)] * 3
    columns = (np.where(is_outside | ~np.isfinite(of), np.nan, of) for of in (found.low, found.high, found.std))
    return [[None if np.isnan(one) else float(one) for one in column] for column in columns]
