"""What an ensemble predicts whose members `confirm` trained again, over seeds and in each way to train.

Each way has its own scales: what its models predict of the test sequences by which `combine` standardised those of the
search, whose targets are not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.task import Task
from search.experiments.confirm.candidates import DIVISIONS, TrainedOn
from search.experiments.members import Ensemble
from search.experiments.scales import Scale, of_seeds, scale_of, trained_again

Floats = NDArray[np.float32]


def over_seeds(
    ensemble: Ensemble | None, predictions: Sequence[Floats], task: Task, n_seeds: int
) -> "OverSeeds | None":
    """The members of an ensemble together, if it is one, of what they predict of a task's test sequences."""
    if ensemble is None:
        return None
    from search.training.predict_split import test_sample  # torch is heavy

    sample = test_sample(predictions[0].shape[1], task)
    return OverSeeds(ensemble=ensemble, predictions=predictions, n_seeds=n_seeds, sample=sample)


@dataclass(frozen=True, kw_only=True, eq=False)
class OverSeeds:
    """An ensemble over `n_seeds` seeds, of the predictions (n_ways * n_seeds, M), way by way, of each member.

    sample: (m,), which of the M test sequences standardise.
    """

    ensemble: Ensemble
    predictions: Sequence[Floats]
    n_seeds: int
    sample: NDArray[np.int64]

    def scales(self, way: TrainedOn) -> tuple[Scale, ...]:
        """Those of each member, so trained."""
        return tuple(scale_of(rows[:, self.sample]) for rows in self._of_way(way))

    def trained(self, way: TrainedOn) -> Ensemble:
        """The ensemble of the members that were so trained."""
        return trained_again(self.ensemble, self.scales(way))

    def together(self) -> tuple[list[Floats], tuple[Floats, Floats | None]]:
        """What it predicts (n_ways * n_seeds, M), of it alone; and the mean and the spread of the first way's seeds."""
        found = [of_seeds(self.trained(way), self._of_way(way)) for way in DIVISIONS]
        return [np.concatenate([rows for rows, _ in found])], found[0][1]

    def _of_way(self, way: TrainedOn) -> list[Floats]:
        first = list(DIVISIONS).index(way) * self.n_seeds
        return [rows[first : first + self.n_seeds] for rows in self.predictions]
