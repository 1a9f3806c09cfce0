"""Score blocks of candidates in a thread pool."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from datasets.candidates.candidates import Candidates
from datasets.candidates.distances import TrainingSequences
from datasets.candidates.outside import Outside
from datasets.common.errors import SequenceError, UserError
from search.experiments.trained import TrainedExperiment, combined, deviation_of, mean_of
from search.machine.hardware import usable_cores
from search.prediction.ranking import Unranked, Valued, unranked
from search.prediction.writers import Kind, PredictedBlock
from search.training.predictor import Predictor

_MOST_BLOCKS = 4
"""Predicted at once: more would be held up by the one thread that reads, and take memory."""


def divide_cores(predictor: Predictor) -> int:
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
            members = self.trained.members_of(candidates.residues, candidates.lengths, self._check)
        except SequenceError as error:
            if candidates.lines is None:
                raise
            raise UserError(
                f"{self.path}, {candidates.place} {candidates.lines[error.row]}: {error.finding[:1].lower()}"
                f"{error.finding[1:]}; correct the {candidates.place} or remove it."
            ) from None
        return Valued(candidates=candidates, prediction=mean_of(members), std=deviation_of(members))

    def complete(self, valued: Valued) -> PredictedBlock:
        """Add to predictions what only those that are written need."""
        residues, lengths = valued.candidates.residues, valued.candidates.lengths
        std = valued.std
        if self.trained.predictor.knows_deviation:
            std = combined(self.trained.predictor.deviation(residues, lengths, self._check), std)
        return PredictedBlock(
            candidates=valued.candidates,
            prediction=valued.prediction,
            std=std,
            distance=None if self.training is None else self.training.distance(residues, lengths, self._check),
            outside=self.outside(residues, lengths, valued.prediction),
        )

    def rows(self, candidates: Candidates) -> Unranked:
        """All of it, as rows of the output."""
        return unranked(self.complete(self.values(candidates)), self.kind)
