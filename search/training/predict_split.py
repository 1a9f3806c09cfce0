"""Predict the test sequences of a split, whose targets are not known here: all for `confirm`, with rows that some of
its models were not trained on, and some for a protocol that looks at how predictions go with numbers of mutations.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


_Tested = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32] | None, StoredEmbeddings | None]
"""Residues, lengths, scores and embeddings."""


class WrittenPredictions(NamedTuple):
    """What `predict_test_sequences` wrote; what nobody asked for is None."""

    prediction: NDArray[np.float32]
    deviation: NDArray[np.float32] | None
    rows: NDArray[np.float32] | None
    rows_deviation: NDArray[np.float32] | None


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
    rows: NDArray[np.int64] | None = None,
) -> None:
    """Write `prediction` (a member for each file of weights, M) float32 to `path`, in the order of `test_sequences`.

    Where `has_deviation`, the models' own standard deviations stand beside it as `deviation`, likewise. Of a sample
    only at most 500 test sequences are predicted, always the same ones of a split. `rows` (n,) of the split, which are
    no test sequences, are predicted as well, as `rows` (a member for each file of weights, n) and `rows_deviation`.

    Raises:
        UserError: Weights do not fit the config, or a test sequence does not fit the model.
    """
    quieten()
    torch.set_num_threads(config.trainer.threads or usable_cores())
    prepared = load_prepared(split)
    tested = _sampled(config, prepared) if is_sample else _tested(config, prepared)
    lengths = tested[1]

    def predictor_of(some: Sequence[Path]) -> Predictor:
        return Predictor(
            config, some, places=places, announce=announce, micro_batch_tokens=config.trainer.micro_batch_tokens
        )

    predictor = predictor_of(weights[:1])
    # Members that share nothing need not be in memory together.
    groups = [weights] if predictor.has_frozen_part else [[path] for path in weights]
    n_done, n_total = 0, len(weights) * len(lengths)
    found: dict[str, list[NDArray[np.float32]]] = {}

    def keep(name: str, parts: Iterable[NDArray[np.float32]]) -> None:
        found.setdefault(name, []).append(np.concatenate(list(parts), axis=1))

    for group in groups:
        if group is not groups[0] or len(group) > 1:
            del predictor
            predictor = predictor_of(group)
        parts = []
        for part in _in_parts(predictor, *tested):
            parts.append(part)
            n_done += part.size
            on_progress("test predictions", n_done, n_total)
        keep("prediction", parts)
        if has_deviation:
            keep("deviation", _in_parts(predictor.deviation, *tested))
        if rows is not None:
            beside = beside_rows(config, prepared, rows)
            others = prepared.residues[rows], prepared.lengths[rows], beside["scores"], beside["embeddings"]
            keep("rows", _in_parts(predictor, *others))
            if has_deviation:
                keep("rows_deviation", _in_parts(predictor.deviation, *others))
    with replaced(path) as unfinished:
        save_file({name: np.concatenate(members) for name, members in found.items()}, unfinished)


def _in_parts(
    compute: Callable[..., NDArray[np.float32]],
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    scores: NDArray[np.float32] | None,
    embeddings: StoredEmbeddings | None,
) -> Iterator[NDArray[np.float32]]:
    for rows in np.split(np.arange(len(lengths)), range(_AT_ONCE, len(lengths), _AT_ONCE)):
        yield compute(
            residues[rows],
            lengths[rows],
            scores=None if scores is None else scores[rows],
            embeddings=None if embeddings is None else embeddings.take(rows),
        )


def test_sample(n: int, task: Task) -> NDArray[np.int64]:
    """The numbers of at most 500 of n test sequences of a task."""
    return shuffled(n, "rise", task.name)[:N_SEQUENCES]


def _tested(config: RunConfig, split: PreparedSplit) -> _Tested:
    """The test sequences of a split, and what a run sees beside them."""
    residues, lengths = test_sequences(split)
    embeddings = None
    if config.embeddings is not None:
        embeddings = StoredEmbeddings(split.embeddings_path, config.embeddings.kind, as_bytes(residues, lengths))
    return residues, lengths, test_scores(split), embeddings


def _sampled(config: RunConfig, split: PreparedSplit) -> _Tested:
    """At most 500 of them, always the same ones."""
    residues, lengths, scores, embeddings = _tested(config, split)
    rows = test_sample(len(lengths), task_of(config))
    known, beside = (None if scores is None else scores[rows]), (None if embeddings is None else embeddings.take(rows))
    return residues[rows], lengths[rows], known, beside


def read_test_predictions(path: Path) -> WrittenPredictions:
    """What `predict_test_sequences` wrote."""
    found = load_file(path)
    return WrittenPredictions(
        prediction=found["prediction"],
        deviation=found.get("deviation"),
        rows=found.get("rows"),
        rows_deviation=found.get("rows_deviation"),
    )


def beside_rows(config: RunConfig, split: PreparedSplit, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What a run's predictor takes beside the sequences of some rows of its split: their scores and embeddings."""
    embeddings = None
    if config.embeddings is not None:
        sequences = as_bytes(split.residues[rows], split.lengths[rows])
        embeddings = StoredEmbeddings(split.embeddings_path, config.embeddings.kind, sequences)
    return {"scores": None if split.scores is None else split.scores[rows], "embeddings": embeddings}


def predict_sample(predictor: Predictor, config: RunConfig, split: PreparedSplit) -> NDArray[np.float32]:
    """Predictions (n_members, n) of at most 500 test sequences, always the same ones of a split."""
    residues, lengths, scores, embeddings = _sampled(config, split)
    return predictor(residues, lengths, scores=scores, embeddings=embeddings)


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
    predictor = Predictor(
        config, weights, places=places, announce=announce, micro_batch_tokens=micro_batch_tokens, keep_features=True
    )
    residues, lengths, scores, embeddings = _sampled(config, split)
    prediction = predictor(residues, lengths, scores=scores, embeddings=embeddings).mean(axis=0, dtype="float64")
    counts = find_mutations(residues, lengths, task.wild_type).counts
    value = spearman(torch.from_numpy(prediction), torch.from_numpy(counts))
    return value if math.isfinite(value) else None
