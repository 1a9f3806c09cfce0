"""Micro-batches of a batch: the same rows, longest first, trimmed, and within their budget."""

import pytest
import torch
from torch import Tensor

from datasets.batches.batch import Batch, sizes_within


def batch_of(lengths: list[int], n_columns: int | None = None, features: str | None = None) -> Batch:
    """A batch of rows of those lengths, in which every value names its row and column."""
    n_columns = max(lengths) if n_columns is None else n_columns
    mask = torch.arange(n_columns) < torch.tensor(lengths)[:, None]
    tokens = (100 * (1 + torch.arange(len(lengths)))[:, None] + torch.arange(n_columns)) * mask
    made: dict[str | None, Tensor | None] = {
        "tokens": torch.stack([tokens, -tokens], dim=2).bfloat16(),
        "pooled": torch.stack([torch.tensor(lengths), torch.arange(len(lengths))], dim=1).float(),
        None: None,
    }
    return Batch(
        tokens=tokens,
        mask=mask,
        region=mask & (tokens % 2 == 0),
        target=torch.arange(len(lengths)).float(),
        index=7 + torch.arange(len(lengths)),
        features=made[features],
    )


LENGTHS = [3, 9, 4, 9, 1, 4]


@pytest.mark.parametrize("features", [None, "pooled", "tokens"])
def test_parts_are_the_rows_longest_first_and_trimmed(features: str | None) -> None:
    batch = batch_of(LENGTHS, n_columns=12, features=features)
    parts = batch.parts(18)
    assert [part.index.tolist() for part in parts] == [[8, 10], [9, 12, 7, 11]]
    assert [part.tokens.shape for part in parts] == [(2, 9), (4, 4)]
    for part in parts:
        assert part.tokens.numel() <= 18
        for name in ("tokens", "mask", "region", "target", "index", "features"):
            whole, some = getattr(batch, name), getattr(part, name)
            if whole is None:
                assert some is None
                continue
            expected = whole[part.index - 7]
            if whole.shape[:2] == batch.tokens.shape:
                expected = expected[:, : part.tokens.shape[1]]
            assert torch.equal(some, expected)
            assert some.dtype == whole.dtype
            assert some.is_contiguous()


def test_a_row_beyond_the_budget_stands_alone() -> None:
    parts = batch_of(LENGTHS).parts(5)
    assert [part.index.tolist() for part in parts] == [[8], [10], [9], [12], [7], [11]]
    assert [part.tokens.shape[1] for part in parts] == [9, 9, 4, 4, 3, 1]


def test_a_batch_that_fits_is_its_own_part() -> None:
    batch = batch_of(LENGTHS)
    for max_tokens in (None, 54, 100):
        [part] = batch.parts(max_tokens)
        assert part is batch
    assert len(batch.parts(53)) == 2


def test_rows_of_one_length_keep_their_order() -> None:
    parts = batch_of([5] * 7).parts(15)
    assert [part.index.tolist() for part in parts] == [[7, 8, 9], [10, 11, 12], [13]]


@pytest.mark.parametrize(
    ("max_tokens", "max_rows", "sizes"),
    [
        (None, None, [5]),
        (None, 2, [2, 2, 1]),
        (20, None, [2, 3]),
        (19, None, [1, 2, 2]),
        (1, None, [1] * 5),
        (10**9, 4, [4, 1]),
        (20, 1, [1] * 5),
    ],
)
def test_sizes_keep_both_limits(max_tokens: int | None, max_rows: int | None, sizes: list[int]) -> None:
    assert sizes_within([10, 9, 6, 6, 2], max_tokens=max_tokens, max_rows=max_rows) == sizes


def test_moving_takes_the_features_along() -> None:
    moved = batch_of(LENGTHS, features="tokens").to("meta")
    assert moved.features is not None
    assert moved.features.device.type == "meta"
    assert moved.features.shape == (6, 9, 2)
