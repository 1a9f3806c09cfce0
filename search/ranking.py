"""Ranks of any number of candidates, in memory of some bytes each or, of the best K, in memory of K rows."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.candidates import Candidates, Label
from search.ranked_output import Kind, Predicted, Spool, opened, tails

_ROWS = 65536  # written at a time

Values = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Prediction (n,) and, of an ensemble, standard deviation (n,)."""
Ranked = tuple[NDArray[np.float32], int]
"""Of the rows that were written: their predictions (n,), and how many lie outside of what is known."""
Complete = Callable[[Candidates, Values], Predicted]
"""Adds to predictions how far the candidates are from what is known."""


def write_all(
    blocks: Iterable[tuple[Candidates, Values]], complete: Complete, path: Path | None, kind: Kind, label: Label
) -> Ranked:
    """Write all candidates in their order, with their ranks: 1 is the highest prediction, the first of equal ones."""
    n_outside = 0
    parts: list[NDArray[np.float32]] = []
    spool = Spool(path, kind)
    try:
        for candidates, values in blocks:
            predicted = complete(candidates, values)
            n_outside += int((predicted.outside > 0).sum())
            spool.add(tails(predicted, kind))
            parts.append(values[0])
        predictions = np.concatenate(parts)
        del parts
        ranks = np.empty(len(predictions), dtype=np.int64)
        ranks[np.argsort(-predictions, kind="stable")] = np.arange(1, 1 + len(predictions))
        with opened(path, kind, label) as output:
            n = 0
            for rows in spool.rows(_ROWS):
                output.write(ranks[n : n + len(rows)].tolist(), rows)
                n += len(rows)
        return predictions, n_outside
    finally:
        spool.close()


def write_top(
    blocks: Iterable[tuple[Candidates, Values]],
    complete: Complete,
    path: Path | None,
    kind: Kind,
    label: Label,
    n_top: int,
) -> Ranked:
    """Write the `n_top` candidates of the highest predictions, the highest first."""
    best = np.empty(0, dtype=np.float32)
    is_outside = np.empty(0, dtype=np.bool_)
    texts: list[str] = []
    for candidates, (prediction, std) in blocks:
        # Who equals the last one comes later, so it is not better. Few get as far as this, once n_top are found.
        rows = np.flatnonzero(prediction > best[-1]) if len(best) == n_top else np.arange(len(prediction))
        if len(rows) > n_top:
            rows = np.sort(rows[np.argsort(-prediction[rows], kind="stable")[:n_top]])
        if not len(rows):
            continue
        values = (prediction[rows], None if std is None else std[rows])
        predicted = complete(candidates.take(rows), values)
        texts += tails(predicted, kind)
        best = np.concatenate([best, values[0]])
        is_outside = np.concatenate([is_outside, predicted.outside > 0])
        order = np.argsort(-best, kind="stable")[:n_top]
        best, is_outside, texts = best[order], is_outside[order], [texts[i] for i in order.tolist()]
    with opened(path, kind, label) as output:
        for first in range(0, len(texts), _ROWS):
            some = texts[first : first + _ROWS]
            output.write(range(first + 1, first + 1 + len(some)), some)
    return best, int(is_outside.sum())
