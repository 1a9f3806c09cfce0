"""Batches of made-up variants, and a small network for them."""

import torch
from torch import Tensor

from datasets.batches.batch import Batch
from models.cnn import CNN


def make_batch(tokens: Tensor, target: Tensor | None = None) -> Batch:
    n = len(tokens)
    mask = tokens != 0
    target = torch.zeros(n) if target is None else target
    return Batch(tokens=tokens, mask=mask, region=mask, target=target, index=torch.arange(n))


def make_variants(n: int, length: int, *, seed: int, shortest: int | None = None) -> Batch:
    """Variants of one random protein: one residue in six replaced, ends cut off down to `shortest`."""
    generator = torch.Generator().manual_seed(seed)
    wild_type = torch.randint(1, 23, (length,), generator=generator)
    other = torch.randint(1, 23, (n, length), generator=generator)
    tokens = torch.where(torch.rand(n, length, generator=generator) < 1 / 6, other, wild_type)
    lengths = torch.randint(shortest or length, length + 1, (n,), generator=generator)
    tokens = tokens * (torch.arange(length) < lengths[:, None])
    return make_batch(tokens, torch.randn(n, generator=generator))


def make_cnn(**changes: object) -> CNN:
    settings = {
        "kernel_size": 5,
        "channels": 43,
        "dropout": 0.0,
        "depth": 1,
        "lr_encoder": 1e-3,
        "lr_embedding": 5e-5,
        "lr_decoder": 5e-6,
        "weight_decay_encoder": 0.0,
        "weight_decay": 0.05,
    }
    return CNN(**(settings | changes))
