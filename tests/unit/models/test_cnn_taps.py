"""The CNN by taps: outputs and gradients of the network on all positions, however windows are numbered."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.batches.loader import BatchLoader, FixedOrder
from datasets.batches.row_tables import RowTables
from models.cnn import CNN
from models.layers.taps.positions import TapPositions
from tests.helpers.variants import make_batch, make_cnn, make_variants

LENGTH = 20
POOLINGS = ["max", "mean", "attention", "position"]
OF_LENGTHS = [*((pooling, None) for pooling in POOLINGS), *((pooling, 3) for pooling in POOLINGS[:3])]
"""Poolings, and the shortest sequence where there are several lengths."""


def by(convolution: str, pooling: str, **changes: object) -> CNN:
    torch.manual_seed(1)
    model = make_cnn(convolution=convolution, pooling=pooling, **changes)
    model.see_lengths(torch.tensor([LENGTH, LENGTH]))
    return model


def on_all_positions(model: CNN, batch: Batch) -> Tensor:
    """The network in float64, without distinct windows."""
    mask = batch.mask[..., None]
    x = functional.one_hot(batch.tokens, 23)[..., 1:].double()
    for layer in model.encoder:
        convolution = nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size, padding="same")
        convolution.weight, convolution.bias = layer.weight, layer.bias
        x = convolution((x * mask).transpose(1, 2)).transpose(1, 2).relu()
    x = functional.linear(x, model.embedding.weight)
    if model.pooling == "max":
        x = x.masked_fill(~mask, -torch.inf).amax(dim=1)
    elif model.pooling == "mean":
        x = (x * mask).sum(dim=1) / mask.sum(dim=1)
    elif model.pooling == "attention":
        x = (torch.softmax(model.attention(x).masked_fill(~mask, -torch.inf), dim=1) * x).sum(dim=1)
    else:
        x = (x * mask * model.position_weight).sum(dim=1)
    return model.decoder((x + model.embedding.bias).relu()).squeeze(-1)


def with_gradients(model: CNN, prediction: Tensor, batch: Batch) -> list[Tensor]:
    loss = functional.mse_loss(prediction, batch.target.to(prediction.dtype))
    return [prediction, *torch.autograd.grad(loss, [*model.parameters()])]


@pytest.mark.parametrize(("pooling", "shortest"), OF_LENGTHS)
@pytest.mark.parametrize("channels", [7, 64])
@pytest.mark.parametrize(("depth", "kernel_size"), [(1, 5), (2, 9), (3, 1), (2, 3)])
def test_outputs_and_gradients_are_those_on_all_positions(
    pooling: str, shortest: int | None, channels: int, depth: int, kernel_size: int
) -> None:
    model = by("taps", pooling, channels=channels, depth=depth, kernel_size=kernel_size).double()
    batch = make_variants(32, LENGTH, seed=0, shortest=shortest)
    found, expected = (
        with_gradients(model, prediction, batch) for prediction in (model(batch), on_all_positions(model, batch))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("depth", [1, 2])
def test_in_float32_they_are_those_by_windows_up_to_rounding(pooling: str, depth: int) -> None:
    ways = [by(way, pooling, channels=48, depth=depth) for way in ("windows", "taps")]
    ways[1].load_state_dict(ways[0].state_dict())
    batch = make_variants(64, LENGTH, seed=3)
    for found, expected in zip(*(with_gradients(model, model(batch), batch) for model in ways), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=float(1e-5 * expected.detach().abs().max()) + 1e-8)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_hold_where_representations_are_dropped(pooling: str) -> None:
    model = by("taps", pooling, channels=4, depth=2, kernel_size=3, dropout=0.4).double()
    batch = make_variants(6, LENGTH, seed=0)
    trained = {name: parameter for name, parameter in model.named_parameters() if name != "attention.bias"}

    def predict(*_: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same are dropped
        return model(batch)

    assert torch.autograd.gradcheck(predict, tuple(trained.values()), eps=1e-7, atol=1e-5, fast_mode=True)
    torch.manual_seed(5)
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


def test_the_same_are_dropped_as_by_windows() -> None:
    models = [by(way, "max", channels=16, dropout=0.3) for way in ("windows", "taps")]
    batch, ways = make_variants(16, LENGTH, seed=0), []
    for model in models:
        torch.manual_seed(5)
        ways.append(with_gradients(model, model(batch), batch))
    for found, expected in zip(*ways, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("pooling", "shortest"), OF_LENGTHS)
def test_numbers_known_of_all_rows_change_no_bit(pooling: str, shortest: int | None) -> None:
    data = make_variants(90, 24, seed=2, shortest=shortest)
    order = FixedOrder(torch.randperm(90, generator=torch.Generator().manual_seed(0)))
    model = by("taps", pooling, channels=32, depth=2)

    def batches(tables: RowTables | None) -> Iterator[Batch]:
        lengths = data.mask.sum(dim=1)
        return iter(BatchLoader(data=data, lengths=lengths, sampler=order, sizes=[32, 32, 25, 1], tables=tables))

    for known, alone in zip(batches(RowTables(data.tokens, data.mask)), batches(None), strict=True):
        assert known.from_rows is not None
        assert alone.from_rows is None
        ways = [with_gradients(model, model(batch), batch) for batch in (known, alone)]
        assert all(torch.equal(one, other) for one, other in zip(*ways, strict=True))
        changed = known.tokens.clone()
        changed[:, 1] = 7
        both = [model(replace(batch, tokens=changed)) for batch in (known, alone)]
        assert torch.equal(*both), "tokens that are not those of the rows"


def test_the_same_window_at_two_positions_is_two_where_that_is_asked() -> None:
    tokens = torch.tensor([[4, 4, 4, 4, 4, 4], [4, 4, 4, 4, 4, 0]])
    positions = TapPositions.of_tokens(make_batch(tokens), 22)
    windows, alike = positions.windows(3)
    assert windows.tolist() == [[0, 13, 14], [12, 13, 2], [12, 13, 14]], "tap k of 4 is 12 + k, of padding k"
    assert alike.ids.tolist() == [[1, 3, 3, 3, 3, 2], [1, 3, 3, 3, 2, 0]]
    assert alike.places is None
    windows, apart = positions.windows(3, by_place=True)
    assert apart.places is not None
    assert apart.places.tolist() == [0, 1, 2, 3, 4, 4, 5]
    assert apart.ids.tolist() == [[1, 2, 3, 4, 6, 7], [1, 2, 3, 4, 5, 0]]
    assert windows[4].tolist() == [12, 13, 2]


def test_codes_too_large_for_their_positions_are_numbered_first() -> None:
    batch = make_variants(8, 30, seed=0)
    few, many = (TapPositions(batch.tokens, n).windows(13, by_place=True) for n in (22, 2**4 * 22))
    (few_windows, few_at), (many_windows, many_at) = few, many
    assert torch.equal(few_at.ids, many_at.ids)
    assert torch.equal(few_windows, many_windows)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_an_empty_sequence_says_what_it_says_by_windows(pooling: str) -> None:
    batch = make_batch(torch.tensor([[3, 4, 5], [0, 0, 0]]))
    models = [by(way, pooling, channels=7) for way in ("windows", "taps")]
    torch.testing.assert_close(*(model(batch) for model in models))
    for model in models:
        assert all(gradient.isfinite().all() for gradient in with_gradients(model, model(batch), batch))


def test_weights_of_positions_fit_other_lengths() -> None:
    models = [by(way, "position", channels=7) for way in ("windows", "taps")]
    for length in (LENGTH - 6, LENGTH + 5):
        batch = make_variants(5, length, seed=1)
        found, expected = (with_gradients(model, model(batch), batch) for model in models)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_products_are_rounded_under_autocast_and_predictions_are_not(pooling: str) -> None:
    model, batch = by("taps", pooling, channels=24, depth=2), make_variants(32, LENGTH, seed=0)
    exact = with_gradients(model, model(batch), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(batch)
    assert prediction.dtype == torch.float32
    rounded = with_gradients(model, prediction, batch)
    assert not torch.equal(rounded[0], exact[0])
    for one, other in zip(rounded, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= 0.2 * other.norm() + 1e-6  # other winners


@pytest.mark.parametrize("pooling", POOLINGS)
def test_predictions_hardly_depend_on_the_others_of_a_batch(pooling: str) -> None:
    model, batch = by("taps", pooling, channels=24, depth=2).eval(), make_variants(40, LENGTH, seed=0)
    parts = torch.cat([model(make_batch(part)) for part in torch.split(batch.tokens, [1, 7, 32])])
    torch.testing.assert_close(parts, model(batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_steps_are_the_same_to_the_bit_each_time(pooling: str) -> None:
    def trained() -> list[Tensor]:
        model = by("taps", pooling, channels=40, depth=2, dropout=0.2)
        optimizer = model.configure_optimizers()
        for seed in range(3):
            batch = make_variants(64, LENGTH, seed=seed)
            functional.mse_loss(model(batch), batch.target).backward()
            optimizer.step()
            optimizer.zero_grad()
        return [*model.parameters()]

    assert all(torch.equal(one, other) for one, other in zip(trained(), trained(), strict=True))


def test_windows_are_what_experiments_without_a_convolution_mean() -> None:
    torch.manual_seed(1)
    model, batch = make_cnn(channels=7), make_variants(8, LENGTH, seed=0)
    assert model.convolution == "windows"
    assert torch.equal(model(batch), by("windows", "max", channels=7)(batch))
