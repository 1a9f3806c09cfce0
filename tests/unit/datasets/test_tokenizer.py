"""Residues become tokens: FLIP's alphabet, and fair-esm's with one added to make room for padding."""

import esm
import numpy as np
import pytest
import torch

from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.tokenizer import EsmTokenizer, ResidueTokenizer, Tokenizer


def codes(*sequences: str) -> np.ndarray:
    length = max(map(len, sequences))
    padded = [sequence.encode().ljust(length, b"\0") for sequence in sequences]
    return np.frombuffer(b"".join(padded), dtype=np.uint8).reshape(len(sequences), length)


def test_residues_are_numbered_in_the_order_of_the_alphabet() -> None:
    tokens, mask = ResidueTokenizer().encode(codes(ALPHABET, "AR"))
    assert tokens[0].tolist() == list(range(1, 23))
    assert tokens[1].tolist() == [1, 2] + [0] * 20
    assert torch.equal(mask, tokens != 0)


def test_esm_tokens_are_those_of_fair_esm_plus_one() -> None:
    sequences = [ALPHABET, "MQYK", "", "LAGX"]
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    _, _, theirs = alphabet.get_batch_converter()([("", sequence) for sequence in sequences])
    tokens, mask = EsmTokenizer().encode(codes(*sequences))
    assert tokens.dtype == torch.uint8
    assert torch.equal(mask, theirs != alphabet.padding_idx)
    assert torch.equal(tokens.long(), torch.where(mask, theirs + 1, 0))


def test_esm_special_tokens() -> None:
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    tokenizer = EsmTokenizer()
    assert (tokenizer.n_tokens, tokenizer.cls, tokenizer.eos) == (
        1 + len(alphabet),
        1 + alphabet.cls_idx,
        1 + alphabet.eos_idx,
    )


@pytest.mark.parametrize("tokenizer", [ResidueTokenizer(), EsmTokenizer()], ids=["residues", "esm"])
def test_residues_stand_between_prefix_and_suffix(tokenizer: Tokenizer) -> None:
    tokens, mask = tokenizer.encode(codes("MQYKLLA", "MQ"))
    lengths = mask.sum(dim=1)
    assert (lengths - tokenizer.n_prefix - tokenizer.n_suffix).tolist() == [7, 2]
    assert tokens[0, tokenizer.n_prefix] == tokens[1, tokenizer.n_prefix] != tokens[1, tokenizer.n_prefix + 1]
    assert tokens.shape[1] == lengths.max()
