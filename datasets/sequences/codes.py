"""Residues as ASCII codes: of several sequences in one array, checked, and mapped through a table."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.alphabet import ALPHABET, GAP

_ALPHABET = ALPHABET.encode()
Codes = NDArray[np.uint8]


def joined(sequences: Sequence[str]) -> tuple[Codes, NDArray[np.int64]]:
    """Return the codes of all residues one after the other, and the lengths (n,) of the n sequences."""
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    # One byte for each character, so that places in it can be told from the lengths.
    return np.frombuffer("".join(sequences).encode("ascii", errors="replace"), dtype=np.uint8), lengths


def find_foreign(codes: Codes, lengths: NDArray[np.int64], *, has_gaps: bool = False) -> tuple[int, int] | None:
    """Return the row and the position of the first code that is no residue (nor a gap, where there may be gaps); None
    where all are.
    """
    known = _ALPHABET + GAP.encode() if has_gaps else _ALPHABET
    if not codes.tobytes().translate(None, delete=known):
        return None
    place = int(np.flatnonzero(~np.isin(codes, list(known)))[0])
    ends = lengths.cumsum()
    row = int(np.searchsorted(ends, place, side="right"))
    return row, int(place - ends[row] + lengths[row])


def padded(codes: Codes, lengths: NDArray[np.int64]) -> Codes:
    """Lay out sequences that stand one after the other as (n, L), zeros behind their ends."""
    longest = int(lengths.max(initial=0))
    if (lengths == longest).all():  # mostly, and then nothing has to be copied
        return codes.reshape(len(lengths), longest)
    residues = np.zeros((len(lengths), longest), dtype=np.uint8)
    residues[np.arange(longest) < lengths[:, None]] = codes
    return residues


def as_bytes(residues: Codes, lengths: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield the codes of each of n sequences from residues (n, L), without what is behind their lengths (n,)."""
    codes, width = residues.tobytes(), residues.shape[1]
    for row, length in enumerate(lengths.tolist()):
        yield codes[row * width : row * width + length]


def translated(codes: Codes, table: Codes) -> Codes:
    """Return `table[codes]` for codes of any shape and a table (256,), without NumPy's index of eight bytes a code."""
    # A bytearray, because what comes of bytes cannot be written to.
    return np.frombuffer(bytearray(codes.tobytes()).translate(table.tobytes()), dtype=np.uint8).reshape(codes.shape)
