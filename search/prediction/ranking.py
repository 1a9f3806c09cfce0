"""Candidates scored in blocks, by several threads, and ranked.

Any number of them takes memory of some bytes each or, of the best K, that of K rows.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates
from datasets.candidates.distances import TrainingSequences
from datasets.candidates.outside import Outside
from datasets.common.errors import SequenceError, UserError
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.scores.candidates import CandidateScores
from search.experiments.averages import combined, deviation_of, mean_of
from search.experiments.trained import TrainedExperiment
from search.prediction.writers import Kind, PredictedBlock, Spool, opened, tails, with_chances
from search.training.predictor import Predictor

_ROWS = 65536  # written at a time

Ranked = tuple[NDArray[np.float32], int]
"""Of the rows that were written: their predictions (n,), and how many lie outside of what is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Valued:
    """n candidates with what each model predicts (n_members, n), prediction (n,) and, of an ensemble, deviation (n,).

    `own` are the members' own deviations (n_members, n) and `spread` the calibrated one (n,), where all need them.
    """

    candidates: Candidates
    members: NDArray[np.float32]
    prediction: NDArray[np.float32]
    std: NDArray[np.float32] | None
    own: NDArray[np.float32] | None = None
    spread: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.prediction)

    def take(self, rows: NDArray[np.int64]) -> "Valued":
        """Return some of the rows."""
        return Valued(
            candidates=self.candidates.take(rows),
            members=self.members[:, rows],
            prediction=self.prediction[rows],
            std=None if self.std is None else self.std[rows],
            own=None if self.own is None else self.own[:, rows],
            spread=None if self.spread is None else self.spread[rows],
        )


Complete = Callable[[Valued], PredictedBlock]
"""Adds to predictions how far the candidates are from what is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Unranked:
    """n rows of an output that lack their ranks, their predictions (n,), and which lie outside of what is known (n,).

    `spread` is their calibrated deviation (n,) where chances are asked for.
    """

    rows: Sequence[str]
    prediction: NDArray[np.float32]
    is_outside: NDArray[np.bool_]
    spread: NDArray[np.floating] | None

    def __len__(self) -> int:
        """Return n."""
        return len(self.rows)


def unranked(predicted: PredictedBlock, kind: Kind, spread: NDArray[np.floating] | None = None) -> Unranked:
    """Make the rows of candidates, to be ranked by `write_all`."""
    return Unranked(
        rows=tails(predicted, kind),
        prediction=predicted.prediction,
        is_outside=predicted.outside > 0,
        spread=spread,
    )


Chances = Callable[[NDArray[np.float32], NDArray[np.floating]], NDArray[np.float32]]
"""From the predictions and the calibrated deviations (n,) of all candidates their chances (n,) to be of the best."""


def write_all(
    blocks: Iterable[Unranked], path: Path, kind: Kind, columns: Sequence[str], chances: Chances | None = None
) -> Ranked:
    """Write all candidates in their order, with their ranks: 1 is the highest prediction, the first of equal ones."""
    parts: list[NDArray[np.float32]] = []
    spreads: list[NDArray[np.floating]] = []
    outside: list[NDArray[np.bool_]] = []
    spool = Spool(path, kind)
    try:
        for block in blocks:
            spool.add(block.rows)
            parts.append(block.prediction)
            outside.append(block.is_outside)
            if block.spread is not None:
                spreads.append(block.spread)
        predictions, is_outside = np.concatenate(parts), np.concatenate(outside)
        del parts, outside
        found = None if chances is None else chances(predictions, np.concatenate(spreads))
        ranks = np.empty(len(predictions), dtype=np.int64)
        ranks[np.argsort(-predictions, kind="stable")] = np.arange(1, 1 + len(predictions))
        with opened(path, kind, columns) as output:
            n = 0
            for rows in spool.rows(_ROWS):
                some = slice(n, n + len(rows))
                if found is not None:
                    rows = with_chances(rows, found[some], is_outside[some])
                output.write(ranks[some].tolist(), rows)
                n += len(rows)
        return predictions, int(is_outside.sum())
    finally:
        spool.close()


def write_top(
    blocks: Iterable[Valued],
    complete: Complete,
    path: Path,
    kind: Kind,
    columns: Sequence[str],
    n_top: int,
    chances: Chances | None = None,
) -> Ranked:
    """Write the `n_top` candidates of the highest predictions, the highest first."""
    best = np.empty(0, dtype=np.float32)
    is_outside = np.empty(0, dtype=np.bool_)
    place = np.empty(0, dtype=np.int64)  # among all candidates
    every: list[tuple[NDArray[np.float32], NDArray[np.floating]]] = []  # where chances are asked for
    texts: list[str] = []
    n_before = 0
    for block in blocks:
        prediction, first, n_before = block.prediction, n_before, n_before + len(block)
        if block.spread is not None:
            every.append((prediction, block.spread))
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
        place = np.concatenate([place, first + rows])
        order = np.argsort(-best, kind="stable")[:n_top]
        best, is_outside, place = best[order], is_outside[order], place[order]
        texts = [texts[i] for i in order.tolist()]
    if chances is not None:
        predictions, spreads = map(np.concatenate, zip(*every, strict=True))
        texts = with_chances(texts, chances(predictions, spreads)[place], is_outside)
    with opened(path, kind, columns) as output:
        for first in range(0, len(texts), _ROWS):
            some = texts[first : first + _ROWS]
            output.write(range(first + 1, first + 1 + len(some)), some)
    return best, int(is_outside.sum())


class ScoringStopped(Exception):
    """Nobody waits for the values any longer."""


@dataclass(frozen=True)
class Valuation:
    """An experiment's predictions of candidates, and how far these lie from what it was trained on.

    All methods may be called by several threads at once. `path` is the candidates' file, if any; without `training`
    there are no distances, without a `level` nothing calibrated. Where `has_chance`, rows have a place for chances, and
    all candidates a calibrated deviation.
    """

    path: Path | None
    trained: TrainedExperiment
    outside: Outside
    training: TrainingSequences | None
    kind: Kind
    scores: CandidateScores | None = None
    embeddings: CandidateEmbeddings | None = None
    level: float | None = None
    has_chance: bool = False
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
        beside = self.beside(candidates)
        if self.scores is not None:
            self.scores.count(beside["scores"])
        try:
            members = self.trained.members_of(candidates.residues, candidates.lengths, self._check, **beside)
        except SequenceError as error:
            if candidates.lines is None:
                raise
            finding = f"{error.finding[:1].lower()}{error.finding[1:]}"
            at, line = candidates.place, candidates.lines[error.row]
            raise UserError(f"{self.path}, {at} {line}: {finding}; correct the {at} or remove it.") from None
        weights = self.trained.weights
        valued = Valued(
            candidates=candidates,
            members=members,
            prediction=mean_of(members, weights),
            std=deviation_of(members, weights),
        )
        calibration = self.trained.calibration
        if not self.has_chance:
            return valued
        assert calibration is not None, "chances are made of it"
        own = self._own(valued) if calibration.asks_deviation else None
        return replace(valued, own=own, spread=calibration.deviation(*self.trained.by_fold(members, own)))

    def complete(self, valued: Valued) -> PredictedBlock:
        """Add to predictions what only those that are written need."""
        residues, lengths = valued.candidates.residues, valued.candidates.lengths
        std, own, calibrated = valued.std, None, None
        if isinstance(self.trained.predictor, Predictor) and self.trained.predictor.knows_deviation:
            own = self._own(valued) if valued.own is None else valued.own
            assert own is not None
            std = combined(own, std)
        if self.level is not None and self.trained.calibration is not None:
            calibrated = self.trained.calibration(*self.trained.by_fold(valued.members, own), self.level)
        return PredictedBlock(
            candidates=valued.candidates,
            prediction=valued.prediction,
            std=std,
            distance=None if self.training is None else self.training.distance(residues, lengths, self._check),
            outside=self.outside(residues, lengths, valued.prediction),
            calibrated=calibrated,
            awaits_chance=self.has_chance,
            written=self.trained.task.written,
        )

    def _own(self, valued: Valued) -> NDArray[np.float32] | None:
        """The models' own deviations (n_members, n); None of an ensemble, which is told from them what it needs."""
        candidates, predictor = valued.candidates, self.trained.predictor
        if not isinstance(predictor, Predictor):
            return None
        return predictor.deviation(candidates.residues, candidates.lengths, self._check, **self.beside(candidates))

    def beside(self, candidates: Candidates) -> dict[str, Any]:
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
        valued = self.values(candidates)
        return unranked(self.complete(valued), self.kind, valued.spread)
