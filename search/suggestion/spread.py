"""The pick of a batch that is spread out, by how like each other candidates are: to the kernel, or in sequence."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.sequences.codes import joined, padded
from datasets.sequences.tokenizer import ResidueTokenizer
from models.joint_covariance import joint_covariance
from models.layers.amino_acids import find_similarity, residue_vectors
from search.experiments.trained import AnyPredictor
from search.suggestion.determinantal import in_batch_ranges, spread_out
from search.suggestion.picker import Picker
from search.suggestion.pool import Pick
from search.training.predictor import Predictor

SPREAD_POOL = 2048
"""Candidates of the highest acquisition that a spread batch is picked from, at least: memory grows with the square."""
_LEAST = 1e-9  # of a variance, in units of the largest: what is known as exactly as this is like nothing
_ENTRIES = 2**24  # of the sequences' vectors that are held at a time


def spread_picks(
    predictor: AnyPredictor, kept: Sequence[Pick], before: Sequence[Pick], n: int, picker: Picker, weight: float
) -> tuple[list[Pick], str]:
    """Those of the kept candidates that are taken beside those of `before`, n with these, and by what they are spread.

    `weight` is that of unlikeness beside acquisitions, which count in units of how far the best is above the n-th best.
    """
    every = [*before, *kept]
    if not kept:
        return [], ""
    codes, lengths = joined([one.sequence for one in every])
    residues = padded(codes, lengths)
    alikeness, by = similarity(predictor, residues, lengths)
    rows = spread_out(
        in_batch_ranges(np.array([one.acquisition for one in every]), n),
        alikeness,
        n - len(before),
        weight=weight,
        n_before=len(before),
        take=lambda row: picker.take(every[row].sequence, every[row].sites),
    )
    return [every[row] for row in rows], by


def similarity(
    predictor: AnyPredictor, residues: NDArray[np.uint8], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], str]:
    """Similarities (n, n) of n candidates, positive semidefinite and 1 on the diagonal, and by what they are, in words.

    Of a kernel on sequences alone the correlations of what it believes of them, after training: how much the
    measurement of one would tell of the other. Of any other model those of the sequences; see `alike`.
    """
    covariance = _covariance(predictor, residues, lengths) if isinstance(predictor, Predictor) else None
    if covariance is None:
        return alike(residues), "their sequences"
    variance = covariance.diagonal()
    is_known = variance <= _LEAST * max(float(variance.max()), 0.0)
    root = np.sqrt(np.where(is_known, 1.0, variance))
    found: NDArray[np.float64] = covariance / root[:, None] / root
    found[is_known] = found[:, is_known] = 0.0
    np.fill_diagonal(found, 1.0)
    return found, "the kernel's covariance"


def _covariance(
    predictor: Predictor, residues: NDArray[np.uint8], lengths: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Of what the models believe of n candidates (n, n), their mean; None where one does not know it."""
    batch = batch_of(predictor, residues, lengths)
    total: Tensor | None = None
    with torch.no_grad():
        for model in predictor.models:
            found = joint_covariance(model, batch)
            if found is None:
                return None
            total = found if total is None else total.add_(found)
    assert total is not None, "a predictor has a model"
    mean: NDArray[np.float64] = (total / len(predictor.models)).cpu().numpy()
    return mean


def batch_of(predictor: Predictor, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Batch:
    """N candidates together, as a model on sequences alone sees them."""
    encoded, n = predictor.encoded(residues, lengths), len(lengths)
    return Batch(
        tokens=encoded.tokens.long(),
        mask=encoded.mask,
        region=encoded.region,
        target=torch.zeros(n),
        index=torch.arange(n),
    ).to(predictor.device)


def alike(residues: NDArray[np.uint8]) -> NDArray[np.float64]:
    """exp(-distance / mean distance) of n sequences: a distance adds up, over positions, how unlike residues are.

    That is by BLOSUM62, in usual substitutions, as the kernel has it (`models.layers.amino_acids`); a position that
    only the longer of two sequences has counts as a substitution.
    """
    tokens = ResidueTokenizer().encode(residues)[0].long()
    tokens = tokens[:, (tokens != tokens[:1]).any(dim=0)]
    n = len(tokens)
    if n < 2 or not tokens.shape[1]:
        return np.ones((n, n))
    vectors = residue_vectors(find_similarity("blosum62")[0])
    products = torch.zeros(n, n, dtype=torch.float64)
    width = max(1, _ENTRIES // (n * vectors.shape[1]))
    for start in range(0, tokens.shape[1], width):
        some = vectors[tokens[:, start : start + width]].flatten(1)
        products.addmm_(some, some.T)
    squares = products.diagonal()
    distance = ((squares[:, None] + squares) / 2 - products).clamp_(min=0)
    distance.fill_diagonal_(0)
    mean = distance.sum() / (n * (n - 1))
    found: NDArray[np.float64] = torch.exp(-distance / mean).numpy()
    return found
