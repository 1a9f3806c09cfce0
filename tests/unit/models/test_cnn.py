"""The network on distinct windows against FLIP's network written out densely."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.splits.prepared import PreparedSplit
from models.cnn import CNN
from tests.helpers.variants import make_batch, make_cnn, make_variants


def dense_forward(model: CNN, batch: Batch) -> Tensor:
    """FLIP's `FluorescenceModel.forward` on all positions, with padding left out of the maximum."""
    mask = batch.mask[..., None]
    x = functional.one_hot(batch.tokens, 23)[..., 1:].to(next(model.parameters()))
    for layer in model.encoder:
        convolution = nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size, padding="same")
        convolution.weight, convolution.bias = layer.weight, layer.bias
        x = convolution((x * mask).transpose(1, 2)).transpose(1, 2).relu()
    x = model.embedding(x * mask).relu()
    return model.decoder(x.masked_fill(~mask, -torch.inf).amax(dim=1).float()).squeeze(-1)


def gradients(model: CNN, prediction: Tensor, target: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(functional.mse_loss(prediction, target), list(model.parameters())))


@pytest.mark.parametrize("shortest", [None, 11], ids=["equal lengths", "mixed lengths"])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_outputs_and_gradients_are_those_of_the_dense_network(
    depth: int, kernel_size: int, shortest: int | None
) -> None:
    # All but the decoder in double precision: in single, how far two orders of summation part depends on the processor.
    model = make_cnn(depth=depth, kernel_size=kernel_size, channels=19).double()
    model.decoder.float()
    batch = make_variants(48, 31, seed=depth, shortest=shortest)
    prediction, expected = model(batch), dense_forward(model, batch)
    torch.testing.assert_close(prediction, expected, rtol=1e-5, atol=1e-6)
    pairs = zip(gradients(model, prediction, batch.target), gradients(model, expected, batch.target), strict=True)
    for gradient, expected_gradient in pairs:
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_padding_changes_no_prediction(depth: int) -> None:
    model = make_cnn(depth=depth).eval()
    batch = make_variants(16, 20, seed=0, shortest=8)
    longer = make_batch(functional.pad(batch.tokens, (0, 13)))
    torch.testing.assert_close(model(longer), model(batch), rtol=0, atol=1e-6)
    for row in range(4):
        alone = make_batch(batch.tokens[row : row + 1, : int(batch.mask[row].sum())])
        torch.testing.assert_close(model(alone), model(batch)[row : row + 1], rtol=0, atol=1e-6)


def test_tokens_outside_the_mask_are_not_seen() -> None:
    model = make_cnn()
    batch = make_variants(4, 20, seed=0, shortest=8)
    tokens = batch.tokens.masked_fill(~batch.mask, 7)
    hidden = Batch(tokens=tokens, mask=batch.mask, region=batch.region, target=batch.target, index=batch.index)
    assert torch.equal(model(hidden), model(batch))


def test_size_and_start_are_those_of_flips_layers() -> None:
    torch.manual_seed(3)
    model = make_cnn(channels=1024)
    torch.manual_seed(3)
    layers = [nn.Conv1d(22, 1024, 5), nn.Linear(1024, 2048), nn.Linear(2048, 1)]
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    assert sum(p.numel() for p in model.parameters()) == 22 * 5 * 1024 + 1024 + 1024 * 2048 + 2048 + 2048 + 1
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected, strict=True))


def test_three_parameter_groups_have_their_own_rates_and_decays() -> None:
    model = make_cnn(depth=2, lr_encoder=0.1, lr_embedding=0.2, lr_decoder=0.3, weight_decay=0.4)
    groups = model.configure_optimizers().param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.0, 4),
        (0.2, 0.4, 2),
        (0.3, 0.4, 2),
    ]


def test_dropout_acts_in_training_only() -> None:
    model, batch = make_cnn(dropout=0.5), make_variants(8, 20, seed=0)
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def train(fit: Callable[..., Trainer], split: PreparedSplit, *, precision: str = "32-true") -> tuple[CNN, Trainer]:
    torch.manual_seed(0)
    model = make_cnn(dropout=0.1, lr_encoder=1e-2, lr_embedding=1e-2, lr_decoder=1e-2, weight_decay=0.0)
    return model, fit(model, split, name="synthetic_two_vs_rest", max_epochs=8, precision=precision)


def test_training_is_the_same_bit_for_bit_and_a_checkpoint_restores_it(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    split = get_split("synthetic_two_vs_rest")
    torch.use_deterministic_algorithms(True)
    try:
        (first, trainer), (second, again) = train(fit, split), train(fit, split)
    finally:
        torch.use_deterministic_algorithms(False)
    names = {"training_loss", "val_loss", "val_spearman"}
    assert trainer.callback_metrics.keys() == names
    assert all(torch.equal(trainer.callback_metrics[n], again.callback_metrics[n]) for n in names)
    assert trainer.callback_metrics["val_spearman"] > 0.3
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))

    save_file(first.state_dict(), tmp_path / "best.safetensors")
    fresh = make_cnn()
    fresh.load_state_dict(load_file(tmp_path / "best.safetensors"))
    batch = make_variants(32, 20, seed=1)
    assert torch.equal(fresh.eval()(batch), first.eval()(batch))


def test_bfloat16_trains_to_about_the_same(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    split = get_split("synthetic_two_vs_rest")
    model, trainer = train(fit, split, precision="bf16-mixed")
    _, expected = train(fit, split)
    for name in ("training_loss", "val_spearman"):
        value, expected_value = trainer.callback_metrics[name], expected.callback_metrics[name]
        assert value == pytest.approx(float(expected_value), abs=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(make_variants(8, 20, seed=0)).dtype == torch.float32


@pytest.mark.parametrize("part", ["encoder", "embedding", "decoder"])
def test_weights_that_diverged_show_in_the_predictions(part: str) -> None:
    model = make_cnn(depth=2)
    nn.init.constant_(next(model.get_submodule(part).parameters()), torch.nan)
    assert model(make_variants(8, 20, seed=0, shortest=8)).isnan().all()


def test_predictions_that_are_all_equal_give_nan(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    model = make_cnn(channels=1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    trainer = fit(model, get_split("synthetic_two_vs_rest"), name="synthetic_two_vs_rest")
    assert trainer.callback_metrics["val_spearman"].isnan()
