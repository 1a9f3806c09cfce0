"""What an experiment predicts of every single mutant of its wild type, as a map."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Stream
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants, seen_positions
from datasets.candidates.mutation_map import MOST_POSITIONS, RESIDUES, MutationMap, is_own_residue, measured_singles
from datasets.common.errors import UserError
from datasets.scores.candidates import CandidateScores
from datasets.splits.prepared import PreparedSplit
from search.experiments.trained import TrainedExperiment, mean_of


def single_mutants(trained: TrainedExperiment) -> Stream:
    """Return the single mutants of all positions that the model sees, in the order of a map's cells.

    Raises:
        UserError: There is no wild type, or there are more positions than a map shows.
    """
    task, crop, limit = trained.task, trained.config.data.crop, trained.predictor.limit
    stream = enumerate_variants(Mutagenesis(kind="singles"), task=task, crop=crop, limit=limit)
    n_positions = len(_positions(trained))
    if n_positions > MOST_POSITIONS:
        raise UserError(
            f"A map shows at most {MOST_POSITIONS:,} positions, and the model sees {n_positions:,} of {task.name}: "
            "write the predictions to a file with --output, without --figure."
        )
    return stream


def predicted_map(
    trained: TrainedExperiment,
    *,
    scores: CandidateScores | None,
    split: PreparedSplit | None,
    check: Callable[[], None],
) -> MutationMap:
    """Predict all single mutants and make a map of them; `check` is called before each batch.

    Raises:
        UserError: See `single_mutants` and `TrainedExperiment.members_of`.
    """
    parts = []
    for block in single_mutants(trained).blocks:
        beside = None if scores is None else scores(block.residues, block.lengths)
        parts.append(mean_of(trained.members_of(block.residues, block.lengths, check, scores=beside)))
    return map_of(trained, parts, scores=scores, split=split)


def map_of(
    trained: TrainedExperiment,
    predictions: Sequence[NDArray[np.float32]],
    *,
    scores: CandidateScores | None,
    split: PreparedSplit | None,
) -> MutationMap:
    """Make a map of the predictions of `single_mutants`, block by block.

    Cells are marked as measured by the rows of `split`, which holds training and validation alone; without it none is.
    """
    wild_type = trained.task.wild_type
    assert wild_type is not None, "`single_mutants` refuses a task without one"
    positions = _positions(trained)
    seen = wild_type[positions.start : positions.stop]
    residues = np.frombuffer(wild_type.encode(), dtype=np.uint8)[None]
    lengths = np.array([len(wild_type)])
    beside = None if scores is None else scores(residues, lengths)
    own = float(mean_of(trained.members_of(residues, lengths, scores=beside))[0])
    effects = np.concatenate(predictions) - np.float32(own)
    remarks = []
    if scores is not None:
        blocks = single_mutants(trained).blocks
        lacking = np.concatenate([_lacking(trained, scores, block.residues, block.lengths) for block in blocks])
        effects[lacking] = np.nan
        if lacking.any():
            remarks.append(f"{lacking.sum():,} mutants lack a score that the model sees: their cells are empty.")
        if _lacking(trained, scores, residues, lengths).any():
            remarks.append(
                "The wild type lacks a score that the model sees, so all effects may be shifted by one amount: compare "
                "them with each other."
            )
    effect = np.zeros((len(positions), len(RESIDUES)), dtype=np.float32)
    effect[~is_own_residue(seen)] = effects
    measured = None
    if split is not None:
        measured = measured_singles(wild_type, positions, split.residues, split.lengths, split.target)
    return MutationMap(
        wild_type=seen,
        first=positions.start + 1,
        effect=effect,
        prediction=own,
        units=trained.task.units,
        n_models=trained.n_members,
        measured=measured,
        relevance=_relevance(trained.predictor.relevances, len(positions)),
        remarks=tuple(remarks),
    )


def _positions(trained: TrainedExperiment) -> range:
    wild_type = trained.task.wild_type or ""
    return seen_positions(wild_type, task=trained.task, crop=trained.config.data.crop, limit=trained.predictor.limit)


def _lacking(
    trained: TrainedExperiment, scores: CandidateScores, residues: NDArray[np.uint8], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which of n sequences lack a score that the model sees (n,)."""
    return np.isnan(scores(residues, lengths)[:, trained.predictor.used_scores]).any(axis=1)


def _relevance(members: Sequence[dict[int, float]], n_positions: int) -> NDArray[np.float64] | None:
    """The geometric mean (P,) of what the members found, NaN where not all of them know it; None without any."""
    if not members:
        return None
    logs = np.full((len(members), n_positions), np.nan)
    for row, found in enumerate(members):
        for position, value in found.items():
            if position <= n_positions:
                logs[row, position - 1] = np.log(value)
    mean: NDArray[np.float64] = np.exp(logs.mean(axis=0))
    return mean
