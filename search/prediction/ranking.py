"""Candidates scored in blocks, by several threads, and ranked.

Any number of them takes memory of some bytes each or, of the best K, that of K rows.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates
from datasets.candidates.distances import TrainingSequences
from datasets.candidates.outside import Outside
from datasets.common.errors import SequenceError, UserError
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.scores.candidates import CandidateScores
from search.experiments.averages import combined, deviation_of, mean_of
from search.experiments.trained import AnyPredictor, TrainedExperiment
from search.machine.hardware import usable_cores
from search.prediction.writers import Kind, PredictedBlock, Spool, opened, tails
from search.training.predictor import Predictor

_MOST_BLOCKS = 4
"""Predicted at once: more would be held up by the one thread that reads, and take memory."""
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


def divide_cores(predictor: AnyPredictor) -> int:
    """Give torch its share of the cores, and return how many blocks should be predicted at once.

    Most steps of a small model are too short to be divided: two blocks on two cores are done sooner than one after
    another on both.
    """
    n_blocks = min(_MOST_BLOCKS, usable_cores()) if predictor.is_light else 1
    torch.set_num_threads(-(-usable_cores() // n_blocks))
    return n_blocks


class ScoringStopped(Exception):
    """Nobody waits for the values any longer."""


@dataclass(frozen=True)
class Valuation:
    """An experiment's predictions of candidates, and how far these lie from what it was trained on.

    All methods may be called by several threads at once. `path` is the file that the candidates come from, if any;
    without `training` there are no distances.
    """

    path: Path | None
    trained: TrainedExperiment
    outside: Outside
    training: TrainingSequences | None
    kind: Kind
    scores: CandidateScores | None = None
    embeddings: CandidateEmbeddings | None = None
    _is_stopped: threading.Event = field(init=False, default_factory=threading.Event)

    def stop(self) -> None:
        """Let what threads are at end soon, with `ScoringStopped`."""
        self._is_stopped.set()

    def _check(self) -> None:
        if self._is_stopped.is_set():
            raise ScoringStopped

    def values(self, candidates: Candidates) -> Valued:
        """Predict.

        Raises:
            UserError: A candidate is none for this model; the sentence names its line. Or the weights rank nothing.
        """
        try:
            members = self.trained.members_of(
                candidates.residues, candidates.lengths, self._check, **self._beside(candidates)
            )
        except SequenceError as error:
            if candidates.lines is None:
                raise
            raise UserError(
                f"{self.path}, {candidates.place} {candidates.lines[error.row]}: {error.finding[:1].lower()}"
                f"{error.finding[1:]}; correct the {candidates.place} or remove it."
            ) from None
        weights = self.trained.weights
        return Valued(candidates=candidates, prediction=mean_of(members, weights), std=deviation_of(members, weights))

    def complete(self, valued: Valued) -> PredictedBlock:
        """Add to predictions what only those that are written need."""
        residues, lengths = valued.candidates.residues, valued.candidates.lengths
        std, predictor = valued.std, self.trained.predictor
        if isinstance(predictor, Predictor) and predictor.knows_deviation:
            own = predictor.deviation(residues, lengths, self._check, **self._beside(valued.candidates))
            std = combined(own, std)
        return PredictedBlock(
            candidates=valued.candidates,
            prediction=valued.prediction,
            std=std,
            distance=None if self.training is None else self.training.distance(residues, lengths, self._check),
            outside=self.outside(residues, lengths, valued.prediction),
        )

    def _beside(self, candidates: Candidates) -> dict[str, Any]:
        """All `scores` (n, K) and `embeddings` of candidates; those that the model does not see are left out."""
        found: dict[str, Any] = {}
        if self.scores is not None:
            found["scores"] = self.scores(candidates.residues, candidates.lengths, candidates.scores)
        if self.embeddings is not None:
            names = candidates.labels if candidates.names is None else candidates.names
            found["embeddings"] = self.embeddings(candidates.residues, candidates.lengths, names)
        return found

    def rows(self, candidates: Candidates) -> Unranked:
        """All of it, as rows of the output."""
        return unranked(self.complete(self.values(candidates)), self.kind)
