"""Ranks of any number of candidates, in memory of some bytes each or, of the best K, in memory of K rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates
from search.prediction.writers import Kind, PredictedBlock, Spool, opened, tails

_ROWS = 65536  # written at a time

Ranked = tuple[NDArray[np.float32], int]
"""Of the rows that were written: their predictions (n,), and how many lie outside of what is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Valued:
    """n candidates with prediction (n,) and, of an ensemble, standard deviation (n,)."""

    candidates: Candidates
    prediction: NDArray[np.float32]
    std: NDArray[np.float32] | None

    def __len__(self) -> int:
        """Return n."""
        return len(self.prediction)

    def take(self, rows: NDArray[np.int64]) -> "Valued":
        """Return some of the rows."""
        std = None if self.std is None else self.std[rows]
        return Valued(candidates=self.candidates.take(rows), prediction=self.prediction[rows], std=std)


Complete = Callable[[Valued], PredictedBlock]
"""Adds to predictions how far the candidates are from what is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Unranked:
    """n rows of an output that lack their ranks, their predictions (n,), and how many lie outside of what is known."""

    rows: Sequence[str]
    prediction: NDArray[np.float32]
    n_outside: int

    def __len__(self) -> int:
        """Return n."""
        return len(self.rows)


def unranked(predicted: PredictedBlock, kind: Kind) -> Unranked:
    """Make the rows of candidates, to be ranked by `write_all`."""
    n_outside = int((predicted.outside > 0).sum())
    return Unranked(rows=tails(predicted, kind), prediction=predicted.prediction, n_outside=n_outside)


def write_all(blocks: Iterable[Unranked], path: Path, kind: Kind, columns: Sequence[str]) -> Ranked:
    """Write all candidates in their order, with their ranks: 1 is the highest prediction, the first of equal ones."""
    n_outside = 0
    parts: list[NDArray[np.float32]] = []
    spool = Spool(path, kind)
    try:
        for block in blocks:
            n_outside += block.n_outside
            spool.add(block.rows)
            parts.append(block.prediction)
        predictions = np.concatenate(parts)
        del parts
        ranks = np.empty(len(predictions), dtype=np.int64)
        ranks[np.argsort(-predictions, kind="stable")] = np.arange(1, 1 + len(predictions))
        with opened(path, kind, columns) as output:
            n = 0
            for rows in spool.rows(_ROWS):
                output.write(ranks[n : n + len(rows)].tolist(), rows)
                n += len(rows)
        return predictions, n_outside
    finally:
        spool.close()


def write_top(
    blocks: Iterable[Valued], complete: Complete, path: Path, kind: Kind, columns: Sequence[str], n_top: int
) -> Ranked:
    """Write the `n_top` candidates of the highest predictions, the highest first."""
    best = np.empty(0, dtype=np.float32)
    is_outside = np.empty(0, dtype=np.bool_)
    texts: list[str] = []
    for block in blocks:
        prediction = block.prediction
        # A tie with the current worst comes later in the input and does not displace it. Few get as far as this,
        # once n_top are found.
        rows = np.flatnonzero(prediction > best[-1]) if len(best) == n_top else np.arange(len(prediction))
        if len(rows) > n_top:
            rows = np.sort(rows[np.argsort(-prediction[rows], kind="stable")[:n_top]])
        if not len(rows):
            continue
        predicted = complete(block.take(rows))
        texts += tails(predicted, kind)
        best = np.concatenate([best, predicted.prediction])
        is_outside = np.concatenate([is_outside, predicted.outside > 0])
        order = np.argsort(-best, kind="stable")[:n_top]
        best, is_outside, texts = best[order], is_outside[order], [texts[i] for i in order.tolist()]
    with opened(path, kind, columns) as output:
        for first in range(0, len(texts), _ROWS):
            some = texts[first : first + _ROWS]
            output.write(range(first + 1, first + 1 + len(some)), some)
    return best, int(is_outside.sum())
