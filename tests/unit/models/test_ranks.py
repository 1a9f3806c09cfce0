"""Numbers of distinct values, rows at positions and steps of Adam: all as torch itself has them, to the bit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from models.layers import ranks
from models.layers.adam import short_step
from models.layers.ranks import by_value, grouped, rank, rows_at, values_at


@pytest.mark.parametrize("n_values", [2, 40, 2**20, 2**40, 2**62], ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 700])
def test_numbers_are_those_of_unique(n: int, n_values: int) -> None:
    values = torch.randint(0, n_values, (40,))[torch.randint(0, 40, (n,))]
    values[: n // 3] = 0
    values[-1] = n_values - 1
    numbers, first = rank(values, n_values)
    distinct = values[values > 0].unique()
    assert torch.equal(values[first.long()], distinct)
    assert torch.equal(torch.cat([torch.zeros(1, dtype=torch.int64), distinct])[numbers], values)


def test_values_of_nothing_but_zero_have_no_numbers() -> None:
    for values in (torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)):
        numbers, first = rank(values, 7)
        assert not numbers.any()
        assert len(first) == 0


def of_embedding(table: Tensor, rows: Tensor) -> Tensor:
    return functional.embedding(rows, functional.pad(table, (0, 0, 1, 0)))


@pytest.mark.parametrize("n", [0, 5, 3000])
@pytest.mark.parametrize("n_channels", [1, 13, 96])
def test_rows_and_their_gradient_are_those_of_an_embedding(n: int, n_channels: int) -> None:
    table = torch.randn(60, n_channels, requires_grad=True)
    rows = torch.randint(0, 50, (n,))  # the last ones nowhere
    weight = torch.randn(n, n_channels)
    assert (n >= ranks._MANY_ROWS) == (n == 3000)
    (expected,) = torch.autograd.grad((of_embedding(table, rows) * weight).sum(), table)
    found = rows_at(table, rows)
    assert torch.equal(found, of_embedding(table, rows))
    (gradient,) = torch.autograd.grad((found * weight).sum(), table)
    assert torch.equal(gradient, expected)


def test_single_values_and_their_gradient_are_those_of_an_embedding() -> None:
    values = torch.randn(60, requires_grad=True)
    ids = torch.randint(0, 50, (9, 31))
    weight = torch.randn(9, 31)
    dense = functional.pad(values, (1, 0), value=-2.5)[ids]
    found = values_at(values, ids, -2.5)
    assert torch.equal(found, dense)
    table = functional.pad(values, (1, 0), value=-2.5)[:, None]
    (expected,) = torch.autograd.grad((functional.embedding(ids, table).squeeze(2) * weight).sum(), values)
    (gradient,) = torch.autograd.grad((found * weight).sum(), values)
    assert torch.equal(gradient, expected)


def test_short_steps_are_those_of_adam() -> None:
    ways = []
    for is_short in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 1), nn.Linear(1, 1))
        groups = [
            {"params": [*model[0].parameters()], "lr": 1e-2, "weight_decay": 0.1},
            {"params": [*model[2].parameters(), *model[3].parameters()], "lr": 1e-3},
        ]
        optimizer = Adam(groups, fused=True)
        step = short_step(optimizer)
        for number in range(6):
            if number == 3:  # as one that is taken up again
                optimizer.load_state_dict(optimizer.state_dict())
                optimizer.param_groups[0]["lr"] = 1e-4
            loss = model[:3](torch.randn(9, 7)).square().mean()  # the last layer has no gradient
            loss.backward()
            if is_short:
                step()
            else:
                optimizer.step()
                optimizer.zero_grad()
            assert all(one.grad is None for one in model.parameters())
        ways.append([*model.parameters(), *(part for one in optimizer.state.values() for part in one.values())])
    assert len(ways[0]) == len(ways[1]) == 6 + 4 * 3
    assert all(torch.equal(one, other) for one, other in zip(*ways, strict=True))


def test_an_optimizer_that_is_watched_takes_its_own_steps() -> None:
    layer, seen = nn.Linear(3, 1), []
    optimizer = Adam(layer.parameters(), fused=True)
    optimizer.register_step_post_hook(lambda *given: seen.append(1))
    layer(torch.ones(2, 3)).sum().backward()
    short_step(optimizer)()
    assert seen == [1]
    assert layer.weight.grad is None


@pytest.mark.parametrize("n_kinds", [1, 9, 300])
def test_groups_are_the_same_whether_numpy_or_torch_sorts(n_kinds: int) -> None:
    values = torch.randint(0, n_kinds, (50,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    by_numpy, by_torch = grouped(values, n_kinds), grouped(values, 2**62)
    for found, expected in zip(by_numpy, by_torch, strict=True):
        assert torch.equal(found.long(), expected.long())
    assert torch.equal(by_numpy.numbers.long(), rank(values, n_kinds)[0])
    assert values[by_numpy.first().long()].tolist() == sorted({*values.tolist()} - {0})


def test_rows_by_value_leave_out_what_is_nothing() -> None:
    values = torch.tensor([[5, 0, 3], [1, 5, 5], [2, 3, 6]], dtype=torch.int32)
    rows, begins = by_value(values, 8, 3)
    assert rows.tolist() == [0, 2, 0, 1, 1, 2]
    assert begins.tolist() == [0, 2, 2, 5, 6], "of 3, 4, 5, 6 and 7"
