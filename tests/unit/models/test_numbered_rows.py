"""Windows numbered once for all rows of a split: a batch's are those that it would have found by itself."""

from dataclasses import replace

import pytest
import torch

from datasets.batches import row_tables
from datasets.batches.loader import BatchLoader, FixedOrder
from datasets.batches.row_tables import RowTables
from models.layers.windows import StatePositions
from tests.helpers.variants import make_cnn, make_variants


def loaders(shortest: int | None) -> list[BatchLoader]:
    """The same batches, once with what is known of all rows and once without."""
    data = make_variants(90, 24, seed=2, shortest=shortest)
    order = FixedOrder(torch.randperm(90, generator=torch.Generator().manual_seed(0)))
    tables = RowTables(data.tokens, data.mask)
    lengths = data.mask.sum(dim=1)
    return [
        BatchLoader(data=data, lengths=lengths, sampler=order, sizes=[32, 32, 25, 1], tables=known)
        for known in (tables, None)
    ]


@pytest.mark.parametrize("shortest", [None, 3], ids=["one length", "several"])
@pytest.mark.parametrize("widths", [(5,), (3, 9), (9, 9, 1)], ids=str)
def test_windows_are_those_of_the_batch_alone(shortest: int | None, widths: tuple[int, ...]) -> None:
    for known, alone in zip(*loaders(shortest), strict=True):
        assert known.from_rows is not None
        assert alone.from_rows is None
        found, expected = StatePositions.of_tokens(known, 23), StatePositions.of_tokens(alone, 23)
        for width in widths:
            windows, found = found.windows(width)
            of_batch, expected = expected.windows(width)
            assert torch.equal(windows, of_batch)
            assert torch.equal(found.ids, expected.ids)
            assert found.n_states == expected.n_states == 1 + len(windows)


@pytest.mark.parametrize("pooling", ["max", "mean", "attention", "position"])
def test_predictions_and_gradients_do_not_depend_on_it(pooling: str) -> None:
    model = make_cnn(pooling=pooling, channels=8, depth=2)
    model.see_lengths(torch.tensor([24, 24]))
    for known, alone in zip(*loaders(None if pooling == "position" else 3), strict=True):
        ways = []
        for batch in (known, alone):
            prediction = model(batch)
            ways.append([prediction, *torch.autograd.grad(prediction.square().sum(), [*model.parameters()])])
        assert all(torch.equal(one, other) for one, other in zip(*ways, strict=True))


def test_other_tokens_are_not_taken_for_those_of_the_rows() -> None:
    known, alone = (next(iter(loader)) for loader in loaders(None))
    changed = known.tokens.clone()
    changed[:, 3] = 7
    windows, found = StatePositions.of_tokens(replace(known, tokens=changed), 23).windows(5)
    of_batch, expected = StatePositions.of_tokens(replace(alone, tokens=changed), 23).windows(5)
    assert torch.equal(windows, of_batch)
    assert torch.equal(found.ids, expected.ids)


def test_nothing_is_kept_of_more_rows_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.zeros(10, 7, dtype=torch.uint8)
    assert RowTables.fit(tokens)
    monkeypatch.setattr(row_tables, "MAX_POSITIONS", 69)
    assert not RowTables.fit(tokens)
