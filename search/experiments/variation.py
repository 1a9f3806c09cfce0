"""Whether a trained model tells sequences apart at all: one that predicts the same of everything ranks nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.embeddings.store import Embeddings, GivenEmbeddings
from datasets.sequences.alphabet import ALPHABET, GAP
from search.experiments.averages import mean_of

_N_VARIANTS = 64


def check_variation(
    path: Path,
    predict: Callable[..., NDArray[np.float32]],
    weights: NDArray[np.float64] | None,
    prediction: NDArray[np.float32],
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    scores: NDArray[np.float32] | None,
    embeddings: Embeddings | None,
) -> None:
    """Refuse the experiment at `path` if it predicts `prediction` (n,), all the same, of everything.

    Equal predictions alone prove nothing: there may be one candidate, or several that differ only where no
    training sequence does. So the model is asked of variants of one of them, `residues` (1, L), too.
    `weights` are what its models, whose predictions `predict` gives, count in the mean.

    Raises:
        UserError: It does.
    """
    if not (prediction == prediction[0]).all():
        return
    variants = _variants(residues[0, : int(lengths[0])])
    same = None if scores is None else np.repeat(scores, len(variants), axis=0)
    made_up = None if embeddings is None else _scattered(embeddings, len(variants))
    members = predict(variants, np.repeat(lengths, len(variants)), scores=same, embeddings=made_up)
    if (mean_of(members, weights) == prediction[0]).all():
        raise UserError(
            f"{path} predicts {prediction[0]:.6g} for every candidate and for {len(variants)} variants of "
            "the first, so its weights rank nothing: predict with another experiment, or search again."
        )


def _variants(residues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Variants (n, L) of a sequence (L,): some of one mutation each, spread over its length, some of many.

    Gaps of aligned sequences stay, so that variants have as many residues.
    """
    generator = np.random.default_rng(0)
    n, n_columns = _N_VARIANTS, len(residues)
    is_mutated = generator.random((2 * n, n_columns)) < 0.5
    is_mutated[:n] = False
    is_mutated[np.arange(n), np.arange(n) * n_columns // n] = True
    others = generator.choice(np.frombuffer(ALPHABET[:20].encode(), dtype=np.uint8), size=is_mutated.shape)
    return np.where(is_mutated & (residues != ord(GAP)), others, residues)


def _scattered(embeddings: Embeddings, n: int) -> GivenEmbeddings:
    """Made-up embeddings of n variants of the first sequence: its own, each value changed by as much as it may be."""
    first = embeddings.entry(0).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=(n, *first.shape)).astype(np.float32)
    return GivenEmbeddings([*(first + noise * (np.abs(first) + 1))], embeddings.kind, embeddings.width)
