"""From residues to tokens; a model brings the tokenizer that it needs."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.sequences.alphabet import ALPHABET, GAP
from datasets.sequences.chains import LINKER
from datasets.sequences.codes import translated


class Tokenizer(Protocol):
    """Injected by the model into the data.

    `n_tokens` counts the tokens, padding (always token 0) included. `n_prefix` and `n_suffix` are the numbers of
    tokens that stand before the first and after the last residue; positions of residues are shifted by the former.
    """

    n_tokens: int
    n_prefix: int
    n_suffix: int

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes, zero-padded at the end, into tokens (N, L') uint8 and mask (N, L') bool.

        The mask is False, and the token 0, at padding and nowhere else.
        """


class ResidueTokenizer:
    """One token for each residue: 0 is padding, then FLIP's alphabet in its order.

    `has_gaps`: the gap of aligned sequences is one more token, the last; without it there is none, and the tokens are
    as many as they were before any table had gaps.
    """

    n_tokens = 1 + len(ALPHABET)
    n_prefix = 0
    n_suffix = 0

    def __init__(self, *, has_gaps: bool = False) -> None:
        self.has_gaps = has_gaps
        self._token_of_code = _table(range(1, self.n_tokens))
        if has_gaps:
            self._token_of_code[ord(GAP)] = self.n_tokens
            self.n_tokens += 1

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes into tokens (N, L) uint8 and mask (N, L) bool."""
        tokens = torch.from_numpy(translated(residues, self._token_of_code))
        return tokens, tokens != 0


def keeps_gaps(tokenizer: Tokenizer) -> bool:
    """Whether the gap of aligned sequences is a token of its own; others are given sequences without their gaps."""
    return bool(getattr(tokenizer, "has_gaps", False))


def links_chains(tokenizer: Tokenizer) -> bool:
    """Whether chains stand one after another with a linker between them, for which there is a token."""
    return getattr(tokenizer, "linker", None) is not None


class EsmTokenizer:
    """The alphabet of ESM-1b, ESM-1v and ESM-2: cls, residues, eos, padding.

    Between chains stands a `linker` of a token of its own, which is glycine to the backbone and nothing to poolings.

    A token is fair-esm's index plus one (`Alphabet.from_architecture("ESM-1b")` in `esm/data.py`), which leaves 0
    for padding. fair-esm's own index of padding is 1, so token 2 never occurs.
    """

    n_tokens = 1 + 33
    n_prefix = 1
    n_suffix = 1
    cls = 1 + 0
    eos = 1 + 2
    mask = 1 + 32
    linker = 1 + 33
    _FIRST_RESIDUE = 1 + 4
    _RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
    glycine = _FIRST_RESIDUE + _RESIDUES.index("G")

    def __init__(self) -> None:
        self._token_of_code = _table([self._FIRST_RESIDUE + self._RESIDUES.index(residue) for residue in ALPHABET])
        self._token_of_code[ord(LINKER)] = self.linker

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Turn (N, L) ASCII codes into tokens (N, L + 2) uint8 and mask (N, L + 2) bool."""
        n, length = residues.shape
        tokens = np.zeros((n, length + 2), dtype=np.uint8)
        tokens[:, 0] = self.cls
        tokens[:, 1:-1] = translated(residues, self._token_of_code)
        tokens[np.arange(n), 1 + np.count_nonzero(residues, axis=1)] = self.eos
        return torch.from_numpy(tokens), torch.from_numpy(tokens != 0)


def _table(tokens: Iterable[int]) -> NDArray[np.uint8]:
    """The token (256,) of each ASCII code, given those of FLIP's alphabet; 0 for every other code.

    Residues outside the alphabet never get to a tokenizer: they are refused when a file is read. Gaps do so only where
    it has a token for them.
    """
    table = np.zeros(256, dtype=np.uint8)
    table[list(ALPHABET.encode())] = list(tokens)
    return table
