"""From residues to tokens; a model brings the tokenizer that it needs."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.alphabet import ALPHABET


class Tokenizer(Protocol):
    """Injected by the model into the data.

    `n_tokens` counts the tokens, padding (always token 0) included. `n_prefix` is the number of tokens that
    stand before the first residue, by which positions of residues are shifted.
    """

    n_tokens: int
    n_prefix: int

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes, zero-padded at the end, into tokens (N, L') int64 and mask (N, L') bool.

        The mask is False, and the token 0, at padding and nowhere else.
        """


class ResidueTokenizer:
    """One token for each residue: 0 is padding, then FLIP's alphabet in its order."""

    n_tokens = 1 + len(ALPHABET)
    n_prefix = 0

    def __init__(self) -> None:
        # Residues outside the alphabet never get here: they are refused when a file is read.
        table = torch.zeros(256, dtype=torch.int64)
        table[torch.tensor(list(ALPHABET.encode()))] = torch.arange(1, self.n_tokens)
        self._token_of_code = table

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes into tokens (N, L) int64 and mask (N, L) bool."""
        tokens = self._token_of_code[torch.from_numpy(residues.astype(np.int64))]
        return tokens, tokens != 0
