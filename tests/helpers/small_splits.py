"""Splits of a few sequences, data modules of them, and what is in their batches."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.datamodule import FitnessData
from datasets.batches.loader import BatchLoader
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.prepared import PreparedSplit
from datasets.tasks.registry import find_task
from datasets.validation.protocols import Holdout


def split_of(sequences: list[str], n_validation: int = 1) -> PreparedSplit:
    """Make a split of the sequences; the targets are 0, 1, ... and the last rows are validation."""
    longest = max(map(len, sequences))
    residues = np.array([list(text.encode().ljust(longest, b"\0")) for text in sequences], dtype=np.uint8)
    rows = np.arange(len(sequences))
    return PreparedSplit(
        path=Path("unused"),
        residues=residues,
        lengths=np.array([len(text) for text in sequences]),
        target=rows.astype(np.float32),
        validation=rows >= len(rows) - n_validation,
        data_hash="",
        label="not FLIP's file",
        n_train=len(rows) - n_validation,
        n_validation=n_validation,
        n_test=1,
        n_overlap=0,
    )


def data_of(split: PreparedSplit, name: str, **changes: Any) -> FitnessData:
    arguments: dict[str, Any] = {
        "split": split,
        "task": find_task(name),
        "tokenizer": ResidueTokenizer(),
        "fold": Holdout().folds(split, find_task(name))[0],
        "crop": None,
        "batch_size": 4,
        "seed": 0,
    }
    return FitnessData(**{**arguments, **changes})


def text_of(tokens: Tensor) -> str:
    return "".join(("." + ALPHABET)[token] for token in tokens.tolist())


def rows_of(loader: BatchLoader) -> list[int]:
    return torch.cat([batch.index for batch in loader]).tolist()


class Framed:
    """A tokenizer with a token before and after the residues, as language models have them."""

    n_tokens = 25
    n_prefix = 1
    n_suffix = 1

    def encode(self, residues: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        inner, mask = ResidueTokenizer().encode(residues)
        tokens = torch.zeros((len(inner), inner.shape[1] + 2), dtype=torch.uint8)
        tokens[:, 0] = 23
        tokens[:, 1:-1] = inner
        tokens[torch.arange(len(inner)), mask.sum(1) + 1] = 24
        return tokens, tokens != 0
