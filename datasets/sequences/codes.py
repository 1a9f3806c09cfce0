"""Map ASCII residue codes through a 256-entry lookup table."""

import numpy as np
from numpy.typing import NDArray


def translated(codes: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `table[codes]` for codes of any shape and a table (256,), without NumPy's index of eight bytes a code."""
    # A bytearray, because what comes of bytes cannot be written to.
    return np.frombuffer(bytearray(codes.tobytes()).translate(table.tobytes()), dtype=np.uint8).reshape(codes.shape)
