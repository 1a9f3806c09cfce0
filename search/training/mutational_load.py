"""Spearman correlation of test predictions with mutation count; test targets are never read."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from datasets.common.paths import Places
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit, test_scores, test_sequences
from datasets.task import Announce
from datasets.validation.protocols import shuffled
from models.metrics import spearman
from search.config.run_config import RunConfig, task_of
from search.training.predictor import Predictor

N_SEQUENCES = 500  # Spearman of so many without any relation strays by 0.045


def rise_with_mutations(
    config: RunConfig,
    split: PreparedSplit,
    weights: Sequence[Path],
    *,
    places: Places,
    announce: Announce,
    micro_batch_tokens: int | None,
) -> float | None:
    """Spearman of predictions, the mean over the models of all folds, with numbers of mutations.

    Of at most 500 test sequences, always the same ones of a split; what frozen layers make of them is kept for other
    runs. None where it can't be told: there is no wild type, all have the same number, or all predictions are equal.
    """
    task = task_of(config)
    if task.wild_type is None:
        return None
    residues, lengths = test_sequences(split)
    rows = shuffled(len(lengths), "rise", task.name)[:N_SEQUENCES]
    residues, lengths, scores = residues[rows], lengths[rows], test_scores(split)
    predictor = Predictor(
        config, weights, places=places, announce=announce, micro_batch_tokens=micro_batch_tokens, keep_features=True
    )
    known = None if scores is None else scores[rows]
    prediction = predictor(residues, lengths, scores=known).mean(axis=0, dtype="float64")
    counts = find_mutations(residues, lengths, task.wild_type).counts
    value = spearman(torch.from_numpy(prediction), torch.from_numpy(counts))
    return value if math.isfinite(value) else None
