"""A frozen experiment together with its weights, ready to predict."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.candidates import BLOCK_ROWS, residues_of
from datasets.errors import SequenceError, UserError
from models.places import Places
from search.ensemble import find_members
from search.experiment import load_experiment
from search.predictor import Predictor


class TrainedExperiment:
    """Predicts with an experiment's weights: the ensemble that `confirm` left, or the weights of the search.

    Attributes:
        config: The run. provenance: where its numbers come from. task: what is predicted, `task.units` in what unit.
        origin: Whose weights they are, "search" or "confirm".
        predictor: Takes residues as arrays.

    Raises:
        UserError: The experiment or its weights are missing, were changed, or do not fit together.
    """

    def __init__(
        self,
        path: Path,
        *,
        places: Places,
        device: torch.device | None = None,
        announce: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        experiment = load_experiment(path)
        members = find_members(path, experiment, announce)
        self.path = path
        self.config, self.provenance = experiment.config, experiment.provenance
        self.origin = members.origin
        self.predictor = Predictor(
            self.config,
            members.weights,
            places=places,
            device=device,
            announce=announce,
            micro_batch_tokens=self.provenance.micro_batch_tokens,
        )
        self.task = self.predictor.task
        if self.predictor.backbone != self.provenance.backbone:
            raise UserError(
                f"{path} was trained on other pretrained weights ({self.provenance.backbone}) than what was found "
                f"({self.predictor.backbone}): name the right folder with --weights-dir, or use the torch they were "
                "drawn with."
            )

    @property
    def n_members(self) -> int:
        """The models of the ensemble, one or more."""
        return self.predictor.n_members

    def predict(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        """Return the predictions (n,) of n whole sequences, the mean of the ensemble, in the assay's unit.

        Raises:
            UserError: A sequence holds no residue or one outside the alphabet, or is longer than the model takes.
        """
        return mean_of(self.predict_members(sequences))

    def predict_members(self, sequences: Sequence[str]) -> NDArray[np.float32]:
        """Return the predictions (n_members, n) of each model; the errors are those of `predict`."""
        if isinstance(sequences, str):
            raise TypeError("predict takes many sequences, not one: put it into a list.")
        texts = list(sequences)
        parts = [np.empty((self.n_members, 0), dtype=np.float32)]
        for first in range(0, len(texts), BLOCK_ROWS):
            try:
                parts.append(self.predictor(*residues_of(texts[first : first + BLOCK_ROWS], self.task.clean)))
            except SequenceError as error:
                raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
        return np.concatenate(parts, axis=1)


def mean_of(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """The prediction (n,) of an ensemble (n_members, n)."""
    mean: NDArray[np.float32] = members[0]
    return mean if len(members) == 1 else members.mean(axis=0, dtype=np.float64).astype(np.float32)


def deviation_of(members: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The standard deviation (n,) of an ensemble's members (n_members - 1 in the denominator); None for one member."""
    return None if len(members) == 1 else members.std(axis=0, ddof=1, dtype=np.float64).astype(np.float32)


def combined(own: NDArray[np.float32], between: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The standard deviation (n,) of an ensemble whose members know their own (n_members, n): both variances add."""
    variance: NDArray[np.float64] = np.square(own, dtype=np.float64).mean(axis=0)
    if between is not None:
        variance = variance + np.square(between, dtype=np.float64)
    deviation: NDArray[np.float32] = np.sqrt(variance).astype(np.float32)
    return deviation
