"""FLIP's poolings and two-layer head on the embeddings of a file, whatever language model they are of."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from datasets.features.encoder import Scope
from datasets.task import Task
from models.bounds import Fraction, NonNegativeFloat, PositiveFloat, Width
from models.fitness_model import FitnessModel
from models.layers.embedding_features import EmbeddingFeatures
from models.layers.pooling import AttentionPooling

_SCOPES: dict[str, Scope] = {"mean": "mean", "mutation_mean": "region", "attention": "tokens"}


class EmbeddingHead(FitnessModel):
    """What `models.esm.ESM` has on a frozen backbone, on embeddings that somebody else computed.

    They are standardised on the training rows: how large they are differs from one language model to the next.

    Args:
        embeddings: it sees nothing else.
        pooling: of embeddings of residues `mean` over residues, `mutation_mean` over the task's mutated region, learned
            `attention`; of those of sequences `mean` alone, which is what they are.
        head_width: units between the head's two layers.
        head_dropout: fraction of them that is dropped while training.
        lr: AdamW's learning rate.
        weight_decay: AdamW's.
    """

    def __init__(
        self,
        *,
        embeddings: Literal["alone"],
        pooling: Literal["mean", "mutation_mean", "attention"],
        head_width: Width,
        head_dropout: Fraction,
        lr: PositiveFloat,
        weight_decay: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.embedding_scope = _SCOPES[pooling]
        self.head_width, self.head_dropout = head_width, head_dropout
        self.lr, self.weight_decay = lr, weight_decay
        self.attention: AttentionPooling | None = None

    def take_embeddings(self, width: int) -> None:
        """Draw the head, as wide as the embeddings are."""
        self.features = EmbeddingFeatures(width)
        self.attention = AttentionPooling(width) if self.pooling == "attention" else None
        self.head = nn.Sequential(nn.Linear(width, self.head_width), nn.ReLU(), nn.Dropout(self.head_dropout))
        self.output = nn.Linear(self.head_width, 1)

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """That of the head, which sees one vector a sequence."""
        return self.n_parameters * min(n_rows, batch_size)

    def check_task(self, task: Task) -> None:
        """Refuse `mutation_mean` without a mutated region."""
        if self.pooling == "mutation_mean" and task.region is None:
            raise UserError(
                f"model.pooling=mutation_mean needs a mutated region and {task.name} has none: "
                "use model.pooling=mean or model.pooling=attention."
            )

    def see_features(self, parts: Iterable[Tensor]) -> None:
        """Learn how large they are."""
        self.features.fit(parts)

    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,)."""
        # Each value has the standard deviation 1 for the head, whatever D is.
        states = self.features(batch.features) * len(self.features.mean) ** 0.5
        hidden = self.head(states if self.attention is None else self.attention(states, batch.mask))
        with torch.autocast(hidden.device.type, enabled=False):  # predictions in bfloat16 would tie
            prediction: Tensor = self.output(hidden.to(self.output.weight.dtype))
        return prediction.squeeze(-1).float()

    def configure_optimizers(self) -> Optimizer:
        """AdamW."""
        return AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
