"""The base of models that are solved at once instead of being trained step by step."""

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datasets.batches.batch import Batch
from models.fitness_model import FitnessModel


class ClosedForm(FitnessModel):
    """Collects the batches of the training epoch and solves after the last one: one epoch is all it needs.

    What a subclass learns are buffers, which `n_parameters` counts.
    """

    transforms_targets = True

    max_rows: int | None = None
    """How many of the epoch's rows are used; they come in random order, so that the first ones are a random sample."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[Batch] = []

    @property
    def n_parameters(self) -> int:
        """The numbers that were learnt: all of the state, where a subclass does not know better."""
        return sum(tensor.numel() for tensor in self.trained_state().values())

    @abstractmethod
    def solve(
        self,
        tokens: Tensor,
        target: Tensor,
        scores: Tensor | None = None,
        embeddings: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Learn from tokens (N, L) int64, 0 at padding, and target (N,) float64, without gradients or autocast.

        `scores` (N, K) are zero-shot scores, NaN where one is missing, `embeddings` (N, D) float32 those of a file, and
        `weight` (N,) float64 says how much each row counts, 1 on average; None where there are none.
        """

    def take_weights(self) -> None:
        """As for other models; a model that is solved has to know of them."""
        if "weight" not in inspect.signature(self.solve).parameters:
            super().take_weights()

    def configure_optimizers(self) -> list[Any]:
        """No optimizer: nothing is learnt step by step."""
        return []

    def on_train_epoch_start(self) -> None:
        """Forget the batches of an epoch that was cut off."""
        self._seen = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the batch; solve with the last one, because validation comes before the epoch's end."""
        self._seen.append(batch)
        if not self.trainer.is_last_batch:
            return
        self.learn(self._seen)
        with torch.no_grad(), torch.autocast(batch.tokens.device.type, enabled=False):
            for seen in self._seen:
                self.training_loss.update(self(seen), seen.target)
        self._seen = []

    def learn(self, batches: Sequence[Batch]) -> None:
        """Solve for all rows of an epoch, whose batches are in its order."""
        length = max(batch.tokens.shape[1] for batch in batches)
        tokens = torch.cat([functional.pad(residues(b), (0, length - b.tokens.shape[1])) for b in batches])
        target = torch.cat([batch.target for batch in batches]).double()
        target = self.in_own_unit(target)
        beside = {
            "scores": [batch.scores for batch in batches if batch.scores is not None],
            "embeddings": [batch.features for batch in batches if batch.features is not None],
            "weight": [batch.weight.double() for batch in batches if batch.weight is not None],
        }
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            # Models of users may know nothing of them.
            given = {name: torch.cat(rows)[: self.max_rows] for name, rows in beside.items() if rows}
            self.solve(tokens[: self.max_rows], target[: self.max_rows], **given)


def residues(batch: Batch) -> Tensor:
    """The batch's tokens (B, L) int64 with 0 at padding, whatever stood there."""
    return batch.tokens.masked_fill(~batch.mask, 0)
