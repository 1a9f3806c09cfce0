"""A batch by upper confidence bounds whose kernel is conditioned on each pick before the next one is made.

Desautels, Krause and Burdick 2014, "Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit
optimization" (GP-BUCB). What a candidate will be measured at is not known while the batch is picked, but that it will
be measured is, and that makes the kernel surer of all that is like it: so a batch does not pick 96 neighbours.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.sequences.codes import joined, padded
from models.joint_covariance import joint_covariance
from models.kernel import Kernel
from search.experiments.trained import TrainedExperiment
from search.prediction.ranking import Valued
from search.suggestion.picker import Picker
from search.suggestion.pool import Pick
from search.suggestion.spread import batch_of
from search.training.predictor import Predictor

Floats = NDArray[np.floating[Any]]
_DEVIATIONS = 2.0
"""Above its prediction is how a candidate is ordered that is to be in the pool that the batch is picked from."""


def is_of_kernel(trained: TrainedExperiment) -> bool:
    """Whether the experiment is of a kernel that sees sequences alone, of which one can be trained."""
    model = trained.predictor.models[0] if isinstance(trained.predictor, Predictor) else None
    return isinstance(model, Kernel) and model.score_features is None and model.embedding_features is None


def can_condition(trained: TrainedExperiment) -> bool:
    """Whether one kernel predicts, that sees sequences alone."""
    return is_of_kernel(trained) and trained.predictor.n_members == 1


def hopes(trained: TrainedExperiment, valued: Valued) -> NDArray[np.float64]:
    """By what n candidates (n,) get into the pool that the batch is picked from, in the assay's unit."""
    assert isinstance(trained.predictor, Predictor), "see `can_condition`"
    candidates, own = valued.candidates, valued.own
    if own is None:
        own = trained.predictor.deviation(candidates.residues, candidates.lengths)
    found: NDArray[np.float64] = valued.prediction.astype(np.float64) + _DEVIATIONS * own[0]
    return found


def conditioned_picks(
    trained: TrainedExperiment, kept: Sequence[Pick], before: Sequence[Pick], n: int, picker: Picker, beta: float
) -> list[Pick]:
    """Those of the kept candidates that are taken beside those of `before`, n with these, the first first.

    Each is the one with the highest sum of what the kernel expects of it and `beta` deviations, those of `before` and
    of the batch measured. The sum is its acquisition, in the assay's unit.
    """
    every = [*before, *kept]
    if not kept:
        return []
    assert isinstance(trained.predictor, Predictor), "see `can_condition`"
    model = trained.predictor.models[0]
    assert isinstance(model, Kernel), "see `can_condition`"
    mean, covariance = _believed(trained.predictor, model, [one.sequence for one in every])
    rows, sums = in_turn(
        mean,
        covariance,
        float(model.hyperparameters.noise),
        n - len(before),
        beta=beta,
        n_before=len(before),
        take=lambda row: picker.take(every[row].sequence, every[row].sites),
    )
    values = torch.tensor(sums, dtype=torch.float64) * model.scale.cpu() + model.location.cpu()
    if (unit := model.target_scale) is not None:
        values = unit.to(values.device)(values.float())
    return [
        replace(every[row], acquisition=float(value)) for row, value in zip(rows, values.double().tolist(), strict=True)
    ]


def in_turn(
    mean: Floats,
    covariance: Floats,
    noise: float,
    n: int,
    *,
    beta: float = 1.0,
    n_before: int = 0,
    take: Callable[[int], bool] = lambda row: True,
) -> tuple[list[int], list[float]]:
    """Rows of up to n of N candidates in the order in which they are taken, of equal ones the first, and their sums.

    Args:
        mean: (N,), what is believed of them.
        covariance: (N, N), of what is believed.
        noise: Variance of a measurement.
        n: How many are taken, at most.
        beta: How many deviations count beside the mean.
        n_before: So many rows at the beginning are measured already, and are not returned.
        take: Is told of each in turn; those that it refuses are passed over.
    """
    variance, is_open = covariance.diagonal().astype(np.float64), np.ones(len(mean), dtype=np.bool_)
    explained = np.zeros((min(n_before + n, len(mean)), len(mean)))
    n_known = 0

    def measure(row: int) -> None:
        nonlocal variance, n_known
        left = covariance[row] - explained[:n_known, row] @ explained[:n_known]
        explained[n_known] = left / np.sqrt(max(float(left[row]), 0.0) + noise)
        variance = variance - explained[n_known] ** 2
        n_known += 1

    for row in range(n_before):
        is_open[row] = False
        measure(row)
    rows: list[int] = []
    sums: list[float] = []
    while len(rows) < n and is_open.any():
        worth = np.where(is_open, mean + beta * np.sqrt(np.maximum(variance, 0)), -np.inf)
        row = int(worth.argmax())
        is_open[row] = False
        if take(row):
            rows.append(row)
            sums.append(float(worth[row]))
            measure(row)
    return rows, sums


def _believed(predictor: Predictor, model: Kernel, texts: Sequence[str]) -> tuple[Floats, Floats]:
    """Means (n,) and covariances (n, n) of what a kernel believes of n candidates, in its own standardised unit."""
    codes, lengths = joined(texts)
    batch = batch_of(predictor, padded(codes, lengths), lengths)
    with torch.no_grad():
        covariance = joint_covariance(model, batch)
        mean = torch.cat([covariances @ model.dual for covariances, _ in model.with_training(batch)])
    assert covariance is not None, "see `can_condition`"
    return mean.cpu().numpy(), covariance.cpu().numpy()
