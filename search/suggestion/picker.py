"""The pick of a batch: the best candidates first, each if it is unlike enough to those before it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True, kw_only=True, slots=True)
class Diversity:
    """What a batch has to keep to.

    max_per_position: at most so many candidates with a mutation at one position. min_distance: in how many residues
    two of them differ at least: Hamming's distance, Levenshtein's between sequences of two lengths. None: anything.
    """

    max_per_position: int | None = None
    min_distance: int | None = None


class Picker:
    """Takes candidates one after another while they fit to those that it took before, `n` of them at most."""

    def __init__(self, n: int, diversity: Diversity) -> None:
        self._n, self._diversity = n, diversity
        self._per_position: Counter[int] = Counter()
        self._texts: list[str] = []
        self._codes: dict[int, list[NDArray[np.uint8]]] = {}  # of the taken ones, by their lengths

    @property
    def is_full(self) -> bool:
        """Whether it took all that it may."""
        return len(self._texts) >= self._n

    def fits(self, sequence: str, sites: Sequence[int]) -> bool:
        """Whether a candidate, mutated at `sites` of the wild type, is unlike enough to those taken."""
        most, least = self._diversity.max_per_position, self._diversity.min_distance
        if most is not None and any(self._per_position[site] >= most for site in sites):
            return False
        return least is None or self._is_apart(sequence, least)

    def take(self, sequence: str, sites: Sequence[int]) -> bool:
        """Take a candidate if it fits and there is room; whether it was taken."""
        if self.is_full or not self.fits(sequence, sites):
            return False
        self._texts.append(sequence)
        self._per_position.update(sites)
        codes = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
        self._codes.setdefault(len(codes), []).append(codes)
        return True

    def _is_apart(self, sequence: str, least: int) -> bool:
        own = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)
        same = self._codes.get(len(own))
        if same is not None and ((np.stack(same) != own).sum(axis=1) < least).any():
            return False
        others = (text for text in self._texts if len(text) != len(own))
        return all(Levenshtein.distance(sequence, text, score_cutoff=least - 1) >= least for text in others)
