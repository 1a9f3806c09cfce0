"""The convolutional network of FLIP (Dallago et al. 2021, `baselines/cnn.py`), with its pooling or another one."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.bounds import Depth, Fraction, NonNegativeFloat, OddInt, PositiveFloat, Width
from models.fitness_model import FitnessModel
from models.layers.score_head import ScoreHead
from models.layers.taps.chain import Layer, chained
from models.layers.taps.convolution import Convolution
from models.layers.taps.poolings import AttentionMean, Maximum, Mean, PositionSum, Readout
from models.layers.taps.positions import TapPositions
from models.layers.windows import (
    MaskedConv1d,
    StatePositions,
    attention_over_length,
    max_over_length,
    sum_over_length,
    weighted_over_length,
)


class CNN(FitnessModel):
    """One-hot residues, masked convolutions, a linear layer per position, a pooling over them, a decoder.

    With depth 1 and the maximum as its pooling it is FLIP's network, except that the pooling ignores padding too, so
    that a prediction does not depend on the other sequences of its batch. FLIP has 1,024 channels, Flipper 43.

    The maximum forgets where a motif stands. `position` remembers: each channel has a weight for each position, so the
    network contains a linear model of the residues at their positions.

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
        pooling: `max`, FLIP's; `mean`; `attention`, a mean with learned weights; `position`, a sum with learned weights
            of each position, for sequences of one length. What a pooling learns is trained like the embedding.
        convolution: `windows`, a product for each distinct window; `taps`, a sum of what its residues or states say at
            their places, in fewer products, on a CPU alone. Both give the same up to rounding; weights fit either.
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
        pooling: Literal["max", "mean", "attention", "position"] = "max",
        convolution: Literal["windows", "taps"] = "windows",
    ) -> None:
        super().__init__()
        n_tokens = self.tokenizer.n_tokens
        widths = [n_tokens - 1] + [channels] * depth
        self.register_buffer("one_hot", torch.eye(n_tokens - 1), persistent=False)
        self.encoder = nn.ModuleList(MaskedConv1d(n_in, n_out, kernel_size) for n_in, n_out in pairwise(widths))
        self.embedding = nn.Linear(channels, 2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(2 * channels, 1)
        self.scores: ScoreHead | None = None
        self.pooling = pooling
        self.convolution = convolution
        self.attention = nn.Linear(2 * channels, 1) if pooling == "attention" else None
        if pooling == "position":
            self.data_shapes = {"position_weight": (None, 2 * channels)}
            self.position_weight = nn.Parameter(torch.zeros(0, 2 * channels))  # (L, 2C), once lengths are seen
        self.lr_encoder = lr_encoder
        self.lr_embedding = lr_embedding
        self.lr_decoder = lr_decoder
        self.weight_decay_encoder = weight_decay_encoder
        self.weight_decay = weight_decay

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        # Sums of rows were measured on CPUs alone, and are written for them.
        by_taps = self.convolution == "taps" and batch.tokens.device.type == "cpu"
        prediction = self._by_taps(batch) if by_taps else self._by_windows(batch)
        return prediction if self.scores is None else prediction + self.scores(batch.scores)

    def _by_windows(self, batch: Batch) -> Tensor:
        """What the network makes of the residues (B,), layer by layer, with autograd's gradients."""
        states, positions = self.one_hot, StatePositions.of_tokens(batch, 1 + len(self.one_hot))
        for convolution in self.encoder:
            states, positions = convolution(states, positions)
            states = functional.relu(states)
        # Bias and ReLU keep the order of values: after the maximum there are fewer left to apply them to.
        pooled = self._pool(functional.linear(states, self.embedding.weight), positions.ids) + self.embedding.bias
        pooled = self.dropout(functional.relu(pooled))
        with torch.autocast(pooled.device.type, enabled=False):  # predictions in bfloat16 would tie
            prediction: Tensor = self.decoder(pooled.float()).squeeze(-1)
            return prediction

    def _by_taps(self, batch: Batch) -> Tensor:
        """The same up to rounding, in fewer products."""
        layers: list[Layer] = []
        positions = TapPositions.of_tokens(batch, len(self.one_hot))
        for number, layer in enumerate(self.encoder, start=1):
            assert isinstance(layer, MaskedConv1d)
            by_place = number == len(self.encoder) and self.pooling == "position"
            windows, positions = positions.windows(layer.kernel_size[0], by_place=by_place)
            layers.append(Convolution(layer, windows))
        if self.pooling == "max":
            layers.append(Maximum(positions, self.embedding.weight))
        elif self.pooling == "position":
            layers.append(PositionSum(positions, self.embedding.weight, self.position_weight))
        elif self.attention is not None:
            layers.append(AttentionMean(positions, self.attention, self.embedding))
        else:
            layers.append(Mean(positions))
        dropped = self.dropout.p if self.training else 0.0
        is_mean = self.pooling in ("mean", "attention")
        return chained([*layers, Readout(self.embedding, self.decoder, dropped, has_product=is_mean)])

    def take_scores(self) -> None:
        """Let the last layer see score columns beside the pooled representation."""
        self.scores = ScoreHead()

    def see_rows(self, rows: Callable[[], Batch]) -> None:
        """Begin with what the score columns say by themselves."""
        if self.scores is not None:
            training = rows()
            self.scores.fit(training.scores, self.in_own_unit(training.target))

    def see_lengths(self, lengths: Tensor) -> None:
        """Draw a weight for each position, or refuse sequences of several lengths, where the pooling is by position."""
        if self.pooling != "position":
            return
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest < longest:
            raise UserError(
                f"model.pooling=position gives each position a weight of its own and needs sequences of one length, "
                f"here they have {shortest:,} to {longest:,} residues: use model.pooling=max or attention."
            )
        # Of random signs, so that the channels tell positions apart from the beginning.
        weight = torch.randn(longest, self.embedding.out_features) / longest**0.5
        self.position_weight = nn.Parameter(weight)

    def _pool(self, states: Tensor, ids: Tensor) -> Tensor:
        """From states (U, 2C) of the windows in ids (B, L) to (B, 2C)."""
        if self.pooling == "max":
            return max_over_length(states, ids)
        with torch.autocast(states.device.type, enabled=False):  # a sum in bfloat16 would lose single residues
            states = states.to(self.decoder.weight.dtype)
            if self.attention is not None:
                return attention_over_length(states, self.attention(states).squeeze(1), ids)
            if self.pooling == "position":
                return weighted_over_length(states, ids, self.position_weight)
            return sum_over_length(states, ids) / (ids > 0).sum(dim=1, keepdim=True).clamp(min=1)

    def configure_optimizers(self) -> Optimizer:
        """Adam with FLIP's three groups of parameters."""
        groups = (
            ("encoder", self.lr_encoder, self.weight_decay_encoder),
            (("embedding", "attention", "position_weight"), self.lr_embedding, self.weight_decay),
            (("decoder", "scores"), self.lr_decoder, self.weight_decay),
        )
        named = [*self.named_parameters()]
        parts = [[parameter for name, parameter in named if name.startswith(prefix)] for prefix, _, _ in groups]
        settings = [{"lr": lr, "weight_decay": decay} for _, lr, decay in groups]
        return Adam([{"params": part, **own} for part, own in zip(parts, settings, strict=True)], fused=True)
