"""Batches as long as their longest row, within a budget in validation, with the features of their rows."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.batches.datamodule import FitnessData
from datasets.batches.loader import BatchLoader
from datasets.validation.protocols import Fold
from tests.helpers.small_splits import Framed, data_of, rows_of, split_of

LETTERS = "ARNDCQEGHILKMFPSTWYV"


def ragged(n: int = 200, n_validation: int = 90) -> FitnessData:
    """Sequences of 1 to 20 residues, each of them the beginning of the same one, framed by two tokens."""
    lengths = np.random.default_rng(0).integers(1, 21, n)
    split = split_of([LETTERS[:length] for length in lengths], n_validation)
    return data_of(split, "meltome_mixed", tokenizer=Framed(), batch_size=3)


def assert_rows_of_the_split(data: FitnessData, loader: BatchLoader) -> None:
    for batch in loader:
        n_columns = int(data.mask[batch.index].sum(1).max())
        assert torch.equal(batch.tokens, data.tokens[batch.index, :n_columns].long())
        assert torch.equal(batch.mask, data.mask[batch.index, :n_columns])
        assert torch.equal(batch.region, data.region[batch.index, :n_columns])
        assert batch.target.tolist() == batch.index.tolist()
        assert batch.tokens.is_contiguous()
        assert batch.mask.is_contiguous()
        assert batch.region.is_contiguous()


def test_training_batches_have_their_size_whatever_the_lengths() -> None:
    data = ragged()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(4)
    sizes = [len(batch) for batch in loader]
    assert sizes == [3] * 36 + [2]
    assert len(loader) == 37
    assert sorted(rows_of(loader)) == list(range(110))
    assert_rows_of_the_split(data, loader)
    assert len({batch.tokens.shape[1] for batch in loader}) > 3, "or nothing was trimmed"


@pytest.mark.parametrize("eval_tokens", [None, 500, 100, 30, 1])
def test_validation_is_sorted_by_length_and_within_its_budget(eval_tokens: int | None) -> None:
    data = ragged()
    data.eval_tokens = eval_tokens
    loader = data.val_dataloader()
    assert rows_of(loader) == data.validation_rows.tolist()
    lengths = data.mask.sum(1)[data.validation_rows]
    assert (lengths.diff() <= 0).all()
    for length in lengths.unique():
        same = data.validation_rows[(lengths == length).numpy()]
        assert same.tolist() == sorted(same.tolist()), "rows of one length in the order of the source"
    assert sorted(rows_of(loader)) == list(range(110, 200))
    batches = [*loader]
    assert len(loader) == len(batches)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        assert len(batch) <= 12
        if eval_tokens is None:
            assert len(batch) == 12 or following is None
            continue
        assert batch.tokens.numel() <= eval_tokens or len(batch) == 1
        full = len(batch) == 12 or batch.tokens.shape[1] * (len(batch) + 1) > eval_tokens
        assert full or following is None
    assert_rows_of_the_split(data, loader)


def test_a_loader_can_be_read_many_times_and_batches_can_be_few() -> None:
    data = ragged()
    assert rows_of(loader := data.train_dataloader()) == rows_of(loader)
    whole = data_of(split_of([LETTERS[:n] for n in (3, 9, 5)]), "meltome_mixed", batch_size=100)
    [batch] = whole.train_dataloader()
    assert batch.tokens.shape == (2, 9)
    [batch] = whole.val_dataloader()
    assert batch.tokens.shape == (1, 5)


def test_nothing_to_train_on_is_no_batch() -> None:
    fold = Fold(train=np.array([], dtype=np.int64), validation=np.array([0]))
    data = data_of(split_of(["ACD", "AC"]), "meltome_mixed", fold=fold)
    assert [*data.train_dataloader()] == []


@dataclass
class Stored:
    """Features that have to be fetched, as those on disk are."""

    made: Tensor
    lengths: Tensor
    asked: list[int] = field(default_factory=list)
    n_computed: int = 0
    values: Tensor | None = None

    def gather(self, rows: Tensor) -> Tensor:
        assert rows.dtype == torch.int64
        assert rows.device.type == "cpu"
        self.asked.extend(rows.tolist())
        found = self.made[rows]
        return found if found.dim() == 2 else found[:, : int(self.lengths[rows].max())]


@dataclass
class InMemory(Stored):
    """Features that are one tensor."""

    def __post_init__(self) -> None:
        self.values = self.made

    def to(self, device: torch.device) -> "InMemory":
        return replace(self, made=self.made.to(device))


def features_of(data: FitnessData, scope: str, kind: type[Stored]) -> Stored:
    n, n_columns = data.tokens.shape
    made = torch.arange(n * n_columns * 2.0).view(n, n_columns, 2) * data.mask[..., None]
    return kind(made.sum(1) if scope == "mean" else made.bfloat16(), data.mask.sum(1))


@pytest.mark.parametrize("scope", ["mean", "tokens"])
@pytest.mark.parametrize("kind", [Stored, InMemory])
def test_batches_carry_the_features_of_their_rows(scope: str, kind: type[Stored]) -> None:
    data = ragged()
    features = features_of(data, scope, kind)
    assert next(iter(data.train_dataloader())).features is None
    data.use_features(features)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            expected = features.made[batch.index]
            if scope == "tokens":
                expected = expected[:, : batch.tokens.shape[1]]
            assert batch.features is not None
            assert torch.equal(batch.features, expected)
            assert batch.features.dtype == features.made.dtype
    train, validation = rows_of(data.train_dataloader()), data.validation_rows.tolist()
    if kind is Stored:
        assert features.asked[: len(train) + len(validation)] == train + validation
    else:
        assert features.asked == [], "one tensor is indexed where it lies"


def test_features_in_memory_follow_the_split_to_the_device() -> None:
    data = ragged()
    data.use_features(features_of(data, "tokens", InMemory))
    data.move(torch.device("meta"))
    batch = next(iter(data.val_dataloader()))
    assert batch.features is not None
    assert batch.features.device.type == batch.tokens.device.type == "meta"
    assert data.tokens.device.type == data.mask.device.type == data.region.device.type == "cpu"

    late = ragged()
    late.move(torch.device("meta"))
    late.use_features(features_of(late, "mean", InMemory))
    batch = next(iter(late.train_dataloader()))
    assert batch.features is not None
    assert batch.features.device.type == "meta"
    late.use_features(features_of(late, "mean", Stored))
    batch = next(iter(late.train_dataloader()))
    assert batch.features is not None
    assert batch.features.device.type == "meta"
