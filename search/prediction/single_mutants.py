"""What an experiment predicts of every single mutant of its wild type, as a map."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates, Stream
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants, seen_positions
from datasets.candidates.mutation_map import MOST_POSITIONS, RESIDUES, MutationMap, is_own_residue, measured_singles
from datasets.common.errors import UserError
from datasets.scores.candidates import CandidateScores
from datasets.splits.prepared import PreparedSplit
from search.experiments.averages import mean_of
from search.experiments.trained import TrainedExperiment


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

    def beside(block: Candidates) -> dict[str, Any]:
        return {} if scores is None else {"scores": scores(block.residues, block.lengths)}

    def predict(block: Candidates) -> NDArray[np.float32]:
        return mean_of(trained.members_of(block.residues, block.lengths, check, **beside(block)), trained.weights)

    return map_of(trained, [predict(block) for block in single_mutants(trained).blocks], beside=beside, split=split)


def map_of(
    trained: TrainedExperiment,
    predictions: Sequence[NDArray[np.float32]],
    *,
    beside: Callable[[Candidates], dict[str, Any]],
    split: PreparedSplit | None,
) -> MutationMap:
    """Make a map of the predictions of `single_mutants`, block by block.

    `beside` gives of candidates what `TrainedExperiment.members_of` takes by name. Cells are marked as measured by the
    rows of `split`, which holds training and validation alone; without it none is.
    """
    wild_type = trained.task.wild_type
    assert wild_type is not None, "`single_mutants` refuses a task without one"
    positions = _positions(trained)
    seen = wild_type[positions.start : positions.stop]
    own = Candidates(
        residues=np.frombuffer(wild_type.encode(), dtype=np.uint8)[None],
        lengths=np.array([len(wild_type)]),
        labels=["WT"],  # as mutations are called, by which a file of embeddings may know it
        lines=None,
    )
    known = beside(own)
    prediction = float(mean_of(trained.members_of(own.residues, own.lengths, **known), trained.weights)[0])
    effects = np.concatenate(predictions) - np.float32(prediction)
    remarks = []
    if "scores" in known:
        lacking = np.concatenate([_lacking(trained, beside(block)) for block in single_mutants(trained).blocks])
        effects[lacking] = np.nan
        if lacking.any():
            remarks.append(f"{lacking.sum():,} mutants lack a score that the model sees: their cells are empty.")
        if _lacking(trained, known).any():
            remarks.append(
                "The wild type lacks a score that the model sees, so all effects may be shifted by one amount: compare "
                "them with each other."
            )
    effect = np.zeros((len(positions), len(RESIDUES)), dtype=np.float32)
    effect[~is_own_residue(seen)] = effects
    measured = None
    if split is not None:
        measured = measured_singles(wild_type, positions, split.residues, split.lengths, split.target)
    relevances, first = trained.relevances, trained.task.first_position
    return MutationMap(
        wild_type=seen,
        first=positions.start + first,
        effect=effect,
        prediction=prediction,
        units=trained.task.units,
        n_models=trained.n_members,
        measured=measured,
        relevance=np.array([relevances.get(one + first, np.nan) for one in positions]) if relevances else None,
        remarks=tuple(remarks),
        names=() if trained.task.chains is None else tuple(map(trained.task.position, positions)),
    )


def _positions(trained: TrainedExperiment) -> range:
    wild_type = trained.task.wild_type or ""
    return seen_positions(wild_type, task=trained.task, crop=trained.config.data.crop, limit=trained.predictor.limit)


def _lacking(trained: TrainedExperiment, beside: dict[str, Any]) -> NDArray[np.bool_]:
    """Which of n sequences lack a score that the model sees (n,)."""
    assert trained.scores is not None
    lacks: NDArray[np.bool_] = np.isnan(beside["scores"][:, trained.scores.used]).any(axis=1)
    return lacks
