"""From residues to tokens; a model brings the tokenizer that it needs."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.alphabet import ALPHABET


class Tokenizer(Protocol):
    """Injected by the model into the data.

    `n_tokens` counts the tokens, padding (always token 0) included. `n_prefix` and `n_suffix` are the numbers of
    tokens that stand before the first and after the last residue; positions of residues are shifted by the former.
    """

    n_tokens: int
    n_prefix: int
    n_suffix: int

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes, zero-padded at the end, into tokens (N, L') int64 and mask (N, L') bool.

        The mask is False, and the token 0, at padding and nowhere else.
        """


class ResidueTokenizer:
    """One token for each residue: 0 is padding, then FLIP's alphabet in its order."""

    n_tokens = 1 + len(ALPHABET)
    n_prefix = 0
    n_suffix = 0

    def __init__(self) -> None:
        self._token_of_code = _table(range(1, self.n_tokens))

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes into tokens (N, L) int64 and mask (N, L) bool."""
        tokens = self._token_of_code[torch.from_numpy(residues.astype(np.int64))]
        return tokens, tokens != 0


class EsmTokenizer:
    """The alphabet of ESM-1b, ESM-1v and ESM-2: cls, residues, eos, padding.

    A token is fair-esm's index plus one (`Alphabet.from_architecture("ESM-1b")` in `esm/data.py`), which leaves 0
    for padding. fair-esm's own index of padding is 1, so token 2 never occurs.
    """

    n_tokens = 1 + 33
    n_prefix = 1
    n_suffix = 1
    cls = 1 + 0
    eos = 1 + 2
    _FIRST_RESIDUE = 1 + 4
    _RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"

    def __init__(self) -> None:
        self._token_of_code = _table([self._FIRST_RESIDUE + self._RESIDUES.index(residue) for residue in ALPHABET])

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes into tokens (N, L + 2) int64 and mask (N, L + 2) bool."""
        codes = torch.from_numpy(residues.astype(np.int64))
        n, length = codes.shape
        tokens = torch.zeros(n, length + 2, dtype=torch.int64)
        tokens[:, 0] = self.cls
        tokens[:, 1:-1] = self._token_of_code[codes]
        tokens[torch.arange(n), 1 + codes.count_nonzero(dim=1)] = self.eos
        return tokens, tokens != 0


def _table(tokens: range | list[int]) -> Tensor:
    """The token of each ASCII code, given those of FLIP's alphabet; 0 for every other code.

    Residues outside the alphabet never get to a tokenizer: they are refused when a file is read.
    """
    table = torch.zeros(256, dtype=torch.int64)
    table[torch.tensor(list(ALPHABET.encode()))] = torch.tensor(list(tokens))
    return table
