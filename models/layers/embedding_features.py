"""Embeddings of a file as features: standardised on the training rows."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from datasets.common.errors import UserError

_ROWS = 4096  # at a time


class EmbeddingFeatures(nn.Module):
    """Embeddings (..., D), each value with mean 0 and standard deviation 1 on the training rows, over the root of D.

    So the mean squared length is 1 whatever D is: penalties and length scales mean the same for every language model.

    Attributes:
        mean: (D,) float32, of the training rows. scale: (D,) what the rest is multiplied by, 0 where nothing varies.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.zeros(width))

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Look at the embeddings (n, D) of the training rows, some at a time."""
        n, total, squares = 0, self.mean.double() * 0, self.mean.double() * 0
        for part in parts:
            for some in torch.split(part, _ROWS):
                n, total = n + len(some), total + some.double().sum(dim=0)
                squares = squares + some.double().square().sum(dim=0)
        mean = total / n
        spread = (squares / n - mean.square()).clamp(min=0).sqrt()
        varies = spread > 1e-6 * mean.abs()  # or is it rounding
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1 / (spread * len(mean) ** 0.5), 0.0))

    def forward(self, values: Tensor | None) -> Tensor:
        """Features (..., D) float32.

        Raises:
            UserError: There are none, or they have another width than those of training.
        """
        if values is None or values.shape[-1] != len(self.mean):
            found = "none" if values is None else f"{values.shape[-1]:,} values"
            raise UserError(
                f"The model was trained with embeddings of {len(self.mean):,} values, here are {found}: give a file of "
                "the same language model with --embeddings."
            )
        return (values.float() - self.mean) * self.scale
