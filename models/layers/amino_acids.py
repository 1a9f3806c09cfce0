"""How like two amino acids are: published tables, or a matrix from a file, and the distances that follow from them."""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datasets.common.errors import UserError, nearest
from datasets.sequences.alphabet import ALPHABET

LETTERS = "ARNDCQEGHILKMFPSTWYVBZX*"
"""The rows and columns of BLOSUM62."""

# Henikoff and Henikoff (1992), BLOSUM62 in half bits, as NCBI distributes it.
_BLOSUM62 = """
 4 -1 -2 -2  0 -1 -1  0 -2 -1 -1 -1 -1 -2 -1  1  0 -3 -2  0 -2 -1  0 -4
-1  5  0 -2 -3  1  0 -2  0 -3 -2  2 -1 -3 -2 -1 -1 -3 -2 -3 -1  0 -1 -4
-2  0  6  1 -3  0  0  0  1 -3 -3  0 -2 -3 -2  1  0 -4 -2 -3  3  0 -1 -4
-2 -2  1  6 -3  0  2 -1 -1 -3 -4 -1 -3 -3 -1  0 -1 -4 -3 -3  4  1 -1 -4
 0 -3 -3 -3  9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2 -1 -3 -3 -2 -4
-1  1  0  0 -3  5  2 -2  0 -3 -2  1  0 -3 -1  0 -1 -2 -1 -2  0  3 -1 -4
-1  0  0  2 -4  2  5 -2  0 -3 -3  1 -2 -3 -1  0 -1 -3 -2 -2  1  4 -1 -4
 0 -2  0 -1 -3 -2 -2  6 -2 -4 -4 -2 -3 -3 -2  0 -2 -2 -3 -3 -1 -2 -1 -4
-2  0  1 -1 -3  0  0 -2  8 -3 -3 -1 -2 -1 -2 -1 -2 -2  2 -3  0  0 -1 -4
-1 -3 -3 -3 -1 -3 -3 -4 -3  4  2 -3  1  0 -3 -2 -1 -3 -1  3 -3 -3 -1 -4
-1 -2 -3 -4 -1 -2 -3 -4 -3  2  4 -2  2  0 -3 -2 -1 -2 -1  1 -4 -3 -1 -4
-1  2  0 -1 -3  1  1 -2 -1 -3 -2  5 -1 -3 -1  0 -1 -3 -2 -2  0  1 -1 -4
-1 -1 -2 -3 -1  0 -2 -3 -2  1  2 -1  5  0 -2 -1 -1 -1 -1  1 -3 -1 -1 -4
-2 -3 -3 -3 -2 -3 -3 -3 -1  0  0 -3  0  6 -4 -2 -2  1  3 -1 -3 -3 -1 -4
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4  7 -1 -1 -4 -3 -2 -2 -1 -2 -4
 1 -1  1  0 -1  0  0  0 -1 -2 -2  0 -1 -2 -1  4  1 -3 -2 -2  0  0  0 -4
 0 -1  0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1  1  5 -2 -2  0 -1 -1  0 -4
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1  1 -4 -3 -2 11  2 -3 -4 -3 -2 -4
-2 -2 -2 -3 -2 -1 -2 -3  2 -1 -1 -2 -1  3 -3 -2 -2  2  7 -1 -3 -2 -1 -4
 0 -3 -3 -3 -1 -2 -2 -3 -3  3  1 -2  1 -1 -2 -2  0 -3 -1  4 -3 -2 -1 -4
-2 -1  3  4 -3  0  1 -1  0 -3 -4  0 -3 -3 -2  0 -1 -4 -3 -3  4  1 -1 -4
-1  0  0  1 -3  3  4 -2  0 -3 -3  1 -1 -3 -1  0 -1 -3 -2 -2  1  4 -1 -4
 0 -1 -1 -1 -2 -1 -1 -1 -1 -1 -1 -1 -1 -1 -2  0  0 -2 -1 -1 -1 -1 -1 -4
-4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4 -4  1
"""
BLOSUM62: NDArray[np.int32] = np.array(_BLOSUM62.split(), dtype=np.int32).reshape(len(LETTERS), len(LETTERS))

# Mei, Liao, Zhou and Li, Biopolymers 80 (2005) 775-786: VHSE, the principal components of 18 hydrophobic (1, 2),
# 17 steric (3, 4) and 15 electronic (5 to 8) properties.
_VHSE = """
A 0.15 -1.11 -1.35 -0.92 0.02 -0.91 0.36 -0.48
R -1.47 1.45 1.24 1.27 1.55 1.47 1.30 0.83
N -0.99 0.00 -0.37 0.69 -0.55 0.85 0.73 -0.80
D -1.15 0.67 -0.41 -0.01 -2.68 1.31 0.03 0.56
C 0.18 -1.67 -0.46 -0.21 0.00 1.20 -1.61 -0.19
Q -0.96 0.12 0.18 0.16 0.09 0.42 -0.20 -0.41
E -1.18 0.40 0.10 0.36 -2.16 -0.17 0.91 0.02
G -0.20 -1.53 -2.63 2.28 -0.53 -1.18 2.01 -1.34
H -0.43 -0.25 0.37 0.19 0.51 1.28 0.93 0.65
I 1.27 -0.14 0.30 -1.80 0.30 -1.61 -0.16 -0.13
L 1.36 0.07 0.26 -0.80 0.22 -1.37 0.08 -0.62
K -1.17 0.70 0.70 0.80 1.64 0.67 1.63 0.13
M 1.01 -0.53 0.43 0.00 0.23 0.10 -0.86 -0.68
F 1.52 0.61 0.96 -0.16 0.25 0.28 -1.33 -0.20
P 0.22 -0.17 -0.50 0.05 -0.01 -1.34 -0.19 3.56
S -0.67 -0.86 -1.07 -0.41 -0.32 0.27 -0.64 0.11
T -0.34 -0.51 -0.55 -1.06 -0.06 -0.01 -0.79 0.39
W 1.50 2.06 1.79 0.75 0.75 -0.13 -1.01 -0.85
Y 0.61 1.60 1.17 0.73 0.53 0.25 -0.96 -0.52
V 0.76 -0.92 -0.17 -1.91 0.22 -1.40 -0.24 -0.03
"""
_AMINO_ACIDS = ALPHABET[:20]
_NO_AMINO_ACIDS = "BJOUXZ*"  # letters of a matrix that are passed over
NAMES = ("identity", "blosum62", "physicochemical")
_MOST_BYTES = 2**16
_MOST_NEGATIVE = 0.1  # of all variation of a matrix, that which no vectors have


def residue_vectors(similarity: NDArray[np.float64] | None, has_gaps: bool = False) -> Tensor:
    """Vectors (23, F) float64 of the tokens of `ResidueTokenizer`, half whose squared distance is how unlike two are.

    A similarity S gives (S_aa + S_bb) / 2 - S_ab, in units of the mean over all pairs of different amino acids: so 1
    is a usual substitution, as in a Hamming distance. Negative eigenvalues of the centred matrix are left out. X is
    the mean of all, U is taken for C, and padding lies off all residues, on an axis of its own.

    Args:
        similarity: (20, 20) in the order of `ALPHABET`; None: all residues are equally unlike.
        has_gaps: they are 24, the last one that of the gap, which lies off all residues on an axis of its own, as
            padding does: it is unlike a residue by (1 + that one's squared length) / 2, 0.975 on average.
    """
    if similarity is None:
        return torch.eye(1 + len(ALPHABET) + has_gaps, dtype=torch.float64)
    centring = np.eye(20) - 1 / 20
    values, axes = np.linalg.eigh(centring @ similarity @ centring)
    vectors = axes * np.sqrt(values.clip(min=0))
    vectors = vectors[:, values > 1e-9 * values.max()]
    mean = (np.square(vectors[:, None] - vectors).sum(axis=2) / 2).sum() / (20 * 19)
    tokens = np.zeros((1 + len(ALPHABET), vectors.shape[1] + 1))
    tokens[1:21, :-1] = vectors / math.sqrt(mean)
    tokens[1 + ALPHABET.index("U")] = tokens[1 + ALPHABET.index("C")]
    tokens[0, -1] = 1.0
    if has_gaps:
        tokens = np.pad(tokens, ((0, 1), (0, 1)))
        tokens[-1, -1] = 1.0
    return torch.from_numpy(tokens)


def find_similarity(name: str) -> tuple[NDArray[np.float64] | None, str | None]:
    """The similarity (20, 20) of that name, None for `identity`, and of a matrix from a file the hash of the file.

    Raises:
        UserError: There is neither a similarity nor a file of that name, or the file does not hold such a matrix.
    """
    if name == "identity":
        return None, None
    if name == "blosum62":
        return BLOSUM62[:20, :20].astype(float), None
    if name == "physicochemical":
        return _inner_products(_VHSE), None
    return _read(Path(name))


def _inner_products(table: str) -> NDArray[np.float64]:
    rows = {row[0]: list(map(float, row[1:])) for row in map(str.split, table.strip().splitlines())}
    vectors = np.array([rows[letter] for letter in _AMINO_ACIDS])
    products: NDArray[np.float64] = vectors @ vectors.T
    return products


def _read(path: Path) -> tuple[NDArray[np.float64], str]:
    """A matrix from a file: a header of letters, then a row for each, its letter before its numbers."""
    where = f"model.similarity={path}"
    try:
        if not path.is_file():
            near = nearest(str(path), NAMES)
            raise UserError(f"{where} is neither one of {', '.join(NAMES)} nor a file that is here: name one.{near}")
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{where} is no 20 x 20 matrix: it has {path.stat().st_size:,} bytes.")
        data = path.read_bytes()
        lines = [line for line in data.decode("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror}): name a file that can.") from None
    except UnicodeDecodeError:
        raise UserError(f"{where} is not valid: expected text in UTF-8.") from None
    cells = [line.replace(",", " ").replace(";", " ").split() for line in lines]
    header = cells[0] if cells else []
    missing = [letter for letter in _AMINO_ACIDS if letter not in header]
    unknown = [letter for letter in header if letter not in _AMINO_ACIDS and letter not in _NO_AMINO_ACIDS]
    if missing or unknown or len(set(header)) != len(header):
        raise UserError(f"{where} is not valid: expected a first line with each of the letters {_AMINO_ACIDS} once.")
    rows = {row[0]: row[1:] for row in cells[1:]}
    matrix = np.zeros((20, 20))
    for i, letter in enumerate(_AMINO_ACIDS):
        row = rows.get(letter, [])
        if len(row) != len(header) or sum(other[0] == letter for other in cells[1:]) != 1:
            raise UserError(f"{where} is not valid: expected one row {letter} of {len(header)} numbers.")
        for j, other in enumerate(_AMINO_ACIDS):
            matrix[i, j] = _number(row[header.index(other)], f"{where} is not valid: {letter}, {other}")
    _check(matrix, where)
    return matrix, f"sha256:{hashlib.sha256(data).hexdigest()}"


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= 1e6:
        raise UserError(f"{where} is {text[:20]!r}, expected a number up to a million.")
    return number


def _check(matrix: NDArray[np.float64], where: str) -> None:
    """Refuse a matrix that is no similarity, or far from one of vectors."""
    i, j = np.unravel_index(np.abs(matrix - matrix.T).argmax(), matrix.shape)
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9):
        a, b = _AMINO_ACIDS[i], _AMINO_ACIDS[j]
        raise UserError(f"{where} is not symmetric: {a}, {b} is {matrix[i, j]:g} and {b}, {a} is {matrix[j, i]:g}.")
    centring = np.eye(20) - 1 / 20
    values = np.linalg.eigvalsh(centring @ matrix @ centring)
    below = -values[values < 0].sum()
    if not values.max() > 1e-9 * max(1.0, float(np.abs(matrix).max())):
        raise UserError(f"{where} tells no amino acids apart: expected larger numbers for those that are more alike.")
    if below > _MOST_NEGATIVE * np.abs(values).sum():
        raise UserError(
            f"{where} is too far from a positive semidefinite matrix ({below / np.abs(values).sum():.0%} of it is "
            f"negative, at most {_MOST_NEGATIVE:.0%} can be left out): give a similarity, not a distance."
        )


def vhse(*, has_gaps: bool = False) -> Tensor:
    """The VHSE scales (23, 8) float32 of the tokens of `ResidueTokenizer`; U is taken for C, X and padding are 0.

    Where it `has_gaps`, they are (24, 9): the last one is 1 for the gap, whose others are 0, and 0 for residues.
    """
    rows = {row[0]: list(map(float, row[1:])) for row in map(str.split, _VHSE.strip().splitlines())}
    rows["U"] = rows["C"]
    table = torch.tensor([[0.0] * 8, *(rows.get(letter, [0.0] * 8) for letter in ALPHABET)])
    if has_gaps:
        table = functional.pad(table, (0, 1, 0, 1))
        table[-1, -1] = 1.0
    return table
