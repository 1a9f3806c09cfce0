"""Seeding of torch's random numbers."""

import torch

from datasets.common.seeds import derive_seed


def seed_torch(*parts: int | str) -> None:
    """Let all random numbers that follow depend on these parts alone (`derive_seed`).

    `torch.manual_seed` notes where it was called from for each kind of accelerator that a machine lacks, which takes
    longer than a small model's solution, and keeps the notes.
    """
    seed = derive_seed(*parts)
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
