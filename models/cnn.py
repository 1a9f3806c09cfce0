"""The convolutional network of FLIP (Dallago et al. 2021, `baselines/cnn.py`)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from datasets.batches.batch import Batch
from models.bounds import Depth, Fraction, NonNegativeFloat, OddInt, PositiveFloat, Width
from models.fitness_model import FitnessModel
from models.layers.windows import MaskedConv1d, max_over_length


class CNN(FitnessModel):
    """One-hot residues, masked convolutions, a linear layer per position, the maximum over them, a decoder.

    With depth 1 it is FLIP's network, except that the pooling ignores padding too, so that a prediction does
    not depend on the other sequences of its batch. FLIP has 1,024 channels, Flipper 43.

    Args:
        kernel_size: residues seen by a convolution, odd.
        channels: C, the outputs of a convolution; the pooled representation has 2C.
        dropout: fraction of the pooled representation that is dropped while training.
        depth: convolutions, one after another.
        lr_encoder: Adam's learning rate of the convolutions.
        lr_embedding: that of the linear layer per position.
        lr_decoder: that of the last linear layer.
        weight_decay_encoder: L2 penalty on the convolutions, 0 in FLIP.
        weight_decay: that on embedding and decoder.
    """

    one_hot: Tensor

    def __init__(
        self,
        *,
        kernel_size: OddInt,
        channels: Width,
        dropout: Fraction,
        depth: Depth,
        lr_encoder: PositiveFloat,
        lr_embedding: PositiveFloat,
        lr_decoder: PositiveFloat,
        weight_decay_encoder: NonNegativeFloat,
        weight_decay: NonNegativeFloat,
    ) -> None:
        super().__init__()
        n_tokens = self.tokenizer.n_tokens
        widths = [n_tokens - 1] + [channels] * depth
        self.register_buffer("one_hot", torch.eye(n_tokens - 1), persistent=False)
        self.encoder = nn.ModuleList(MaskedConv1d(n_in, n_out, kernel_size) for n_in, n_out in pairwise(widths))
        self.embedding = nn.Linear(channels, 2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(2 * channels, 1)
        self.lr_encoder = lr_encoder
        self.lr_embedding = lr_embedding
        self.lr_decoder = lr_decoder
        self.weight_decay_encoder = weight_decay_encoder
        self.weight_decay = weight_decay

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        states, ids = self.one_hot, batch.tokens.masked_fill(~batch.mask, 0)
        for convolution in self.encoder:
            states, ids = convolution(states, ids)
            states = functional.relu(states)
        # Bias and ReLU keep the order of values: after the maximum there are fewer left to apply them to.
        pooled = max_over_length(functional.linear(states, self.embedding.weight), ids) + self.embedding.bias
        pooled = self.dropout(functional.relu(pooled))
        with torch.autocast(pooled.device.type, enabled=False):  # predictions in bfloat16 would tie
            prediction: Tensor = self.decoder(pooled.float())
        return prediction.squeeze(-1)

    def configure_optimizers(self) -> Optimizer:
        """Adam with FLIP's three groups of parameters."""
        groups = (
            (self.encoder, self.lr_encoder, self.weight_decay_encoder),
            (self.embedding, self.lr_embedding, self.weight_decay),
            (self.decoder, self.lr_decoder, self.weight_decay),
        )
        return Adam(
            [{"params": part.parameters(), "lr": lr, "weight_decay": decay} for part, lr, decay in groups],
            fused=True,
        )
