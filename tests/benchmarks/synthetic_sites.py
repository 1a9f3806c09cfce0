"""Synthetic landscapes like those of four sites that are varied together: epistasis, and few variants that do anything.

Each seed draws a landscape of its own. A latent value is a sum over the four sites (60 % of its variance; half of what
a residue does at a site follows from what kind of residue it is, half is its own) and over the six pairs of them (40 %,
each pair of residues its own). A measurement is a rising curve of it, by which one variant in twenty reaches half of
the top, and noise of a twentieth of the top.
"""

import numpy as np
from numpy.typing import NDArray

from models.layers.amino_acids import find_similarity, residue_vectors

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
SITES = 4
POOL = 4096
_PAIRS = 0.4
_HALF_AT = 0.95
_STEEPNESS = 2.0  # per standard deviation of the latent value
_NOISE = 0.05


def landscape(seed: int) -> tuple[list[str], list[float]]:
    """Sequences and targets of `POOL` variants, drawn at random from all 160,000 of a landscape of its own."""
    random = np.random.default_rng([seed, 4])
    kind = _kinds()
    effects = []
    for _ in range(SITES):
        by_kind = _standardised(kind @ random.normal(size=kind.shape[1]))
        effects.append(np.sqrt(0.5) * by_kind + np.sqrt(0.5) * random.normal(size=len(RESIDUES)))
    pairs = {(i, j): random.normal(size=(20, 20)) for i in range(SITES) for j in range(i + 1, SITES)}
    every = np.stack(np.meshgrid(*[np.arange(20)] * SITES, indexing="ij"), axis=-1).reshape(-1, SITES)
    alone = sum(effect[every[:, site]] for site, effect in enumerate(effects))
    together = sum(effect[every[:, i], every[:, j]] for (i, j), effect in pairs.items())
    latent = np.sqrt(1 - _PAIRS) * _standardised(alone) + np.sqrt(_PAIRS) * _standardised(together)
    latent = _standardised(latent)
    value = 1 / (1 + np.exp(-_STEEPNESS * (latent - np.quantile(latent, _HALF_AT))))
    chosen = random.permutation(len(every))[:POOL]
    measured = value[chosen] + _NOISE * random.normal(size=POOL)
    return ["".join(RESIDUES[one] for one in row) for row in every[chosen]], measured.tolist()


def _kinds() -> NDArray[np.float64]:
    """What kind of residue each is: the first four principal components (20, 4) of BLOSUM62's vectors."""
    from datasets.sequences.codes import joined, padded
    from datasets.sequences.tokenizer import ResidueTokenizer

    tokens = ResidueTokenizer().encode(padded(*joined(list(RESIDUES))))[0].long()[:, 0]
    vectors = residue_vectors(find_similarity("blosum62")[0])[tokens].numpy()
    centred = vectors - vectors.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    found: NDArray[np.float64] = left[:, :4] * size[:4]
    return found


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (values - values.mean()) / values.std()
    return found
