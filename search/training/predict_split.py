"""Predict the test sequences of a split, whose targets are not known here: all for `confirm`, and some for a protocol
that looks at how predictions go with numbers of mutations.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from datasets.common.files import replaced
from datasets.common.paths import Places
from datasets.embeddings.store import StoredEmbeddings
from datasets.sequences.codes import as_bytes
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit, load_prepared, test_scores, test_sequences
from datasets.task import Announce, Task
from datasets.validation.protocols import shuffled
from models.metrics import spearman
from search.config.run_config import RunConfig, task_of
from search.machine.hardware import usable_cores
from search.training.predictor import Predictor
from search.training.trainer import quieten

N_SEQUENCES = 500  # Spearman of so many without any relation strays by 0.045
_AT_ONCE = 8192  # sequences: each prediction depends, in its last bits, on what stands beside it


def predict_test_sequences(
    config: RunConfig,
    weights: Sequence[Path],
    split: Path,
    *,
    places: Places,
    path: Path,
    announce: Announce,
    on_progress: Callable[[str, int, int], None],
    has_deviation: bool = False,
    is_sample: bool = False,
) -> None:
    """Write `prediction` (a member for each file of weights, M) float32 to `path`, in the order of `test_sequences`.

    Where `has_deviation`, the models' own standard deviations stand beside it as `deviation`, likewise. Of a sample
    only at most 500 test sequences are predicted, always the same ones of a split.

    Raises:
        UserError: Weights do not fit the config, or a test sequence does not fit the model.
    """
    quieten()
    torch.set_num_threads(config.trainer.threads or usable_cores())
    prepared = load_prepared(split)
    residues, lengths = test_sequences(prepared)
    scores, embeddings = test_scores(prepared), _test_embeddings(config, prepared)
    if is_sample:
        some = _sample(len(lengths), task_of(config))
        residues, lengths, scores = residues[some], lengths[some], None if scores is None else scores[some]
        embeddings = None if embeddings is None else embeddings.take(some)

    def predictor_of(some: Sequence[Path]) -> Predictor:
        return Predictor(
            config, some, places=places, announce=announce, micro_batch_tokens=config.trainer.micro_batch_tokens
        )

    predictor = predictor_of(weights[:1])
    # Members that share nothing need not be in memory together.
    groups = [weights] if predictor.has_frozen_part else [[path] for path in weights]
    n_done, n_total = 0, len(weights) * len(lengths)
    members: list[NDArray[np.float32]] = []
    own: list[NDArray[np.float32]] = []
    for group in groups:
        if group is not groups[0] or len(group) > 1:
            del predictor
            predictor = predictor_of(group)
        parts, deviations = [], []
        for rows in np.split(np.arange(len(lengths)), range(_AT_ONCE, len(lengths), _AT_ONCE)):
            beside: dict[str, Any] = {
                "scores": None if scores is None else scores[rows],
                "embeddings": None if embeddings is None else embeddings.take(rows),
            }
            parts.append(predictor(residues[rows], lengths[rows], **beside))
            if has_deviation:
                deviations.append(predictor.deviation(residues[rows], lengths[rows], **beside))
            n_done += parts[-1].size
            on_progress("test predictions", n_done, n_total)
        members.append(np.concatenate(parts, axis=1))
        own.extend([np.concatenate(deviations, axis=1)] if has_deviation else [])
    found = {"prediction": np.concatenate(members), **({"deviation": np.concatenate(own)} if own else {})}
    with replaced(path) as unfinished:
        save_file(found, unfinished)


def _sample(n: int, task: Task) -> NDArray[np.int64]:
    """At most 500 of n test sequences of a task."""
    return shuffled(n, "rise", task.name)[:N_SEQUENCES]


def _test_embeddings(config: RunConfig, split: PreparedSplit) -> StoredEmbeddings | None:
    """Those of the test sequences, in their order, where the run has some."""
    if config.embeddings is None:
        return None
    return StoredEmbeddings(split.embeddings_path, config.embeddings.kind, as_bytes(*test_sequences(split)))


def read_test_predictions(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What `predict_test_sequences` wrote: predictions and, where they were asked for, deviations."""
    found = load_file(path)
    return found["prediction"], found.get("deviation")


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
    rows = _sample(len(lengths), task)
    residues, lengths, scores = residues[rows], lengths[rows], test_scores(split)
    predictor = Predictor(
        config, weights, places=places, announce=announce, micro_batch_tokens=micro_batch_tokens, keep_features=True
    )
    known, embeddings = None if scores is None else scores[rows], _test_embeddings(config, split)
    beside = None if embeddings is None else embeddings.take(rows)
    prediction = predictor(residues, lengths, scores=known, embeddings=beside).mean(axis=0, dtype="float64")
    counts = find_mutations(residues, lengths, task.wild_type).counts
    value = spearman(torch.from_numpy(prediction), torch.from_numpy(counts))
    return value if math.isfinite(value) else None
