"""Made alignments: sequences drawn from a pairwise model that is known, and files of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.read import RESIDUES


def random_model(
    random: np.random.Generator, n_columns: int, n_contacts: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
    """Fields (C, 20), couplings (C, 20, C, 20) of `n_contacts` pairs of columns, and these pairs."""
    fields = random.normal(0, 1, (n_columns, 20))
    couplings = np.zeros((n_columns, 20, n_columns, 20), dtype=np.float32)
    pairs = [(i, j) for i in range(n_columns) for j in range(i + 1, n_columns)]
    contacts = [pairs[i] for i in random.choice(len(pairs), n_contacts, replace=False)]
    for i, j in contacts:
        couplings[i, :, j] = random.normal(0, strength, (20, 20))
        couplings[j, :, i] = couplings[i, :, j].T
    return fields, couplings, contacts


def sampled(
    random: np.random.Generator,
    fields: NDArray[np.float64],
    couplings: NDArray[np.float64],
    contacts: list[tuple[int, int]],
    n: int,
    n_sweeps: int = 20,
) -> NDArray[np.uint8]:
    """Draw codes (n, C) by Gibbs sampling."""
    n_columns = len(fields)
    codes = random.integers(0, 20, (n, n_columns)).astype(np.uint8)
    others: list[list[int]] = [[] for _ in range(n_columns)]
    for i, j in contacts:
        others[i].append(j)
        others[j].append(i)
    for _ in range(n_sweeps):
        for i in range(n_columns):
            logits = fields[i] + sum(couplings[j, codes[:, j], i] for j in others[i])
            logits = np.broadcast_to(logits, (n, 20))
            codes[:, i] = (logits + random.gumbel(size=(n, 20))).argmax(1)
    return codes


def written(codes: NDArray[np.uint8]) -> list[str]:
    """Rows of capital letters and `-`."""
    letters = np.frombuffer((RESIDUES + "-").encode(), dtype=np.uint8)
    return [letters[row].tobytes().decode() for row in codes]


def write_fasta(path: Path, rows: list[str]) -> Path:
    """A file of rows called s0, s1, ..."""
    path.write_text("".join(f">s{i}\n{row}\n" for i, row in enumerate(rows)))
    return path
