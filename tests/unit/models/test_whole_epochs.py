"""Which models are handed an epoch at once, and what it is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR

from datasets.batches.batch import Batch
from models.cnn import CNN
from models.embedding_head import EmbeddingHead
from models.epistasis import Epistasis
from models.esm import ESM
from models.fitness_model import FitnessModel
from models.ridge import Ridge
from models.whole_epochs import leaves_loops_alone
from tests.helpers.small_splits import data_of, split_of
from tests.helpers.variants import make_cnn

TASK = "gb1_sampled"


class Linear(FitnessModel):
    """Leaves Lightning's loops alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        return self.weight * batch.tokens.float().mean(1)

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.1)


class Watching(Linear):
    """Logs its gradients."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.log("gradient", 0.0)


class OwnStep(Linear):
    """Trains in its own way."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """None."""


class ViaLog(Linear):
    """Has every number that is logged pass through its own hands."""

    def log(self, *args: Any, **settings: Any) -> None:
        super().log(*args, **settings)


class LogsInForward(Linear):
    """Logs a number of each batch."""

    def forward(self, batch: Batch) -> Tensor:
        if self.training:
            self.log("longest", batch.mask.sum(1).max(), on_epoch=True)
        return super().forward(batch)


class LogsWithin(Linear):
    """Logs numbers of each batch in a function within a method of it."""

    @property
    def _shift(self) -> Tensor:
        [self.log(name, self.weight) for name in "ab"]
        return self.weight

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) + self._shift


class Plans(Linear):
    """Has a schedule for as many steps as there will be."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [LinearLR(optimizer, total_iters=int(self.trainer.estimated_stepping_batches))]


def test_a_model_takes_epochs_unless_it_has_a_part_in_the_loops() -> None:
    assert make_cnn().takes_epochs
    assert Linear().takes_epochs
    assert all(leaves_loops_alone(kind, FitnessModel) for kind in (ESM, Epistasis, EmbeddingHead))
    assert not Ridge(alpha=1.0).takes_epochs
    assert not any(model().takes_epochs for model in (Watching, OwnStep, ViaLog, LogsInForward, LogsWithin, Plans))
    assert type(make_cnn()) is CNN


def rows(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.index.tolist() for batch in batches]


@pytest.mark.parametrize("limit", [None, 2, 99])
def test_an_epoch_has_the_batches_of_the_loader(limit: int | None) -> None:
    data = data_of(split_of(["ACD", "ACDE"] * 7), TASK)
    data.give_epochs(limit=limit, should_stop=lambda: False)
    loader, single = data.train_dataloader(), data.training_batches()
    assert len(loader) == 1
    orders = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        single.sampler.set_epoch(epoch)
        [whole] = loader
        orders.append(rows([*whole.to(torch.device("cpu")).batches()]))
        assert orders[-1] == rows([*single])[:limit]
    assert orders[0] != orders[1]


def test_an_epoch_ends_after_the_batch_at_which_it_is_told_to() -> None:
    asked: list[int] = []
    used: list[int] = []

    def should_stop() -> bool:
        asked.append(len(used))
        return len(used) == 2

    data = data_of(split_of(["ACD"] * 14), TASK)
    data.give_epochs(limit=None, should_stop=should_stop)
    [whole] = data.train_dataloader()
    for batch in whole.batches():
        used.append(len(batch))
    assert used == [4, 4]
    assert asked == [1, 2], "each batch is used before the question"


def test_a_model_may_count_steps(fit: Callable[..., Any], get_split: Callable[..., Any]) -> None:
    class Counting(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []

        def forward(self, batch: Batch) -> Tensor:
            if self.training:
                self.seen.append(self.global_step)
            return super().forward(batch)

    split = get_split("synthetic_one_vs_rest")
    single, at_once = Counting(), Counting()
    fit(single, split, name="synthetic_one_vs_rest", max_epochs=2)
    fit(at_once, split, name="synthetic_one_vs_rest", max_epochs=2, gives_epochs=True)
    assert at_once.seen == single.seen == [*range(len(single.seen))]
    assert len(single.seen) > 1
