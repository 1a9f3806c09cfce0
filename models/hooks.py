"""What the program asks of a model, and shows it, before it trains: a model answers what concerns it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.common.paths import Places
from datasets.features.encoder import FrozenPart, Scope
from datasets.task import Announce, Task
from models.memory import Memory

HAS_GAPS: ContextVar[bool] = ContextVar("has_gaps", default=False)


@contextmanager
def with_gaps(has_gaps: bool) -> Iterator[None]:
    """Build models for aligned sequences or for others, whatever their constructors take: those of users know neither.

    Their one-hot form has the gap as one more residue, so that weights fit those of the same kind of table alone.
    """
    before = HAS_GAPS.set(has_gaps)
    try:
        yield
    finally:
        HAS_GAPS.reset(before)


class ModelHooks:
    """Each has an answer that suits a model which the question does not concern."""

    def can_rank(self, residues: NDArray[np.uint8], training: NDArray[np.uint8], *, has_scores: bool = False) -> bool:
        """Whether it can tell sequences (M, L) apart at all after training on others (N, L): ASCII codes, 0 at padding.

        False where all predictions would be one number. It is asked before anything trains; `has_scores` says that
        there are zero-shot scores.
        """
        return True

    max_residues: int | None = None
    """The longest sequence the model takes; None: any."""

    weights_name: str | None = None
    backbone_hash: str | None = None
    """Name and hash of the pretrained weights that `fetch` found; a hash alone says how others were drawn."""

    def check_task(self, task: Task) -> None:
        """Refuse, by a UserError, a task that the model cannot be used on."""

    def check_size(self, n_train: int) -> None:
        """Refuse, by a UserError, more training rows than the model can hold."""

    def approximation(self, n_train: int) -> str | None:
        """What is not exact with so many training rows where fewer would be solved exactly, as a sentence."""
        return None

    def fetch(self, places: Places, announce: Announce) -> None:
        """Find or download pretrained weights; a UserError says why there are none."""

    def build(self, places: Places) -> None:
        """Build what is too heavy for the constructor; called once, before training."""

    def frozen_part(self, places: Places, precision: str, device: torch.device) -> FrozenPart | None:
        """What is computed once for all epochs and trials, and how; None where everything is trained."""
        return None

    def memory(self, precision: str) -> Memory | None:
        """What a run needs, without building it; None if that is too little to be planned for."""
        return None

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """About how many multiply-adds are done at once: for a batch on its way forward, or to solve a model.

        How many threads a run takes follows from it (`search.training.threads`), so it has to be the same on every
        machine. `n_rows` are a fold's training rows, the longest sequence of the split has `longest` tokens.
        """
        return 0

    has_gaps: bool = False
    """Whether it was built for aligned sequences, whose gap is a token (`with_gaps`)."""

    def take_scores(self) -> None:
        """Make room for the score columns that all batches will have, if the family knows of any; before loading."""

    embedding_scope: Scope | None = None
    """What the model sees of the embeddings of a file, which batches have as features; None is nothing."""

    def take_embeddings(self, width: int) -> None:
        """Make room for embeddings of `width` values, where there is a scope; before loading."""

    def see_features(self, parts: Iterable[Tensor]) -> None:
        """Look at the embeddings (n, D) that it is to see of the training rows, some at a time; before training."""

    def see_lengths(self, lengths: Tensor) -> None:
        """Look at the lengths (N,) in tokens of all rows of the split, right after the model was built for training.

        Raises:
            UserError: The model does not take sequences of these lengths.
        """

    def see_rows(self, rows: Callable[[], Batch]) -> None:
        """Look at all training rows as one batch, made when it is asked for, its tokens of a small integer type."""
