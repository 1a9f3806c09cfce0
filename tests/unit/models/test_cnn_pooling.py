"""The CNN's poolings against the same network on all positions, and what `position` refuses and keeps."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.cnn import CNN
from models.layers.windows import StatePositions, max_over_length
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_batch, make_cnn, make_variants

LENGTH = 20


def pooled_by(pooling: str, **changes: object) -> CNN:
    torch.manual_seed(1)
    model = make_cnn(pooling=pooling, channels=7, **changes)
    model.see_lengths(torch.tensor([LENGTH, LENGTH]))
    return model


def of_positions(model: CNN, batch: Batch) -> Tensor:
    """What the embedding says at all positions (B, L, 2C), before its bias."""
    mask = batch.mask[..., None]
    x = functional.one_hot(batch.tokens, 23)[..., 1:].to(next(model.parameters()))
    for layer in model.encoder:
        convolution = nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size, padding="same")
        convolution.weight, convolution.bias = layer.weight, layer.bias
        x = convolution((x * mask).transpose(1, 2)).transpose(1, 2).relu()
    return functional.linear(x * mask, model.embedding.weight)


def dense(model: CNN, batch: Batch) -> Tensor:
    states, mask = of_positions(model, batch), batch.mask[..., None]
    if model.pooling == "mean":
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
    elif model.pooling == "attention":
        scores = model.attention(states).masked_fill(~mask, -torch.inf)
        pooled = (torch.softmax(scores, dim=1) * states * mask).sum(dim=1)
    else:
        pooled = (states * mask * model.position_weight).sum(dim=1)
    return model.decoder((pooled + model.embedding.bias).relu()).squeeze(-1)


@pytest.mark.parametrize("pooling", ["mean", "attention", "position"])
def test_outputs_and_gradients_are_those_of_the_dense_network(pooling: str) -> None:
    model = pooled_by(pooling)
    batch = make_variants(32, LENGTH, seed=0, shortest=None if pooling == "position" else 8)
    values = []
    for prediction in (model(batch), dense(model, batch)):
        gradients = torch.autograd.grad(functional.mse_loss(prediction, batch.target), [*model.parameters()])
        values.append([prediction, *gradients])
    for found, expected in zip(*values, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_maximum_is_the_default_and_what_it_was_to_the_bit() -> None:
    torch.manual_seed(1)
    model, batch = make_cnn(channels=7), make_variants(32, LENGTH, seed=0, shortest=8)
    named = pooled_by("max")
    assert model.state_dict().keys() == named.state_dict().keys()
    assert [*model.state_dict()] == [
        f"{part}.{kind}" for part in ("encoder.0", "embedding", "decoder") for kind in ("weight", "bias")
    ]
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), named.parameters(), strict=True))
    states, positions = model.encoder[0](model.one_hot, StatePositions.of_tokens(batch, 23))
    pooled = max_over_length(functional.linear(functional.relu(states), model.embedding.weight), positions.ids)
    expected = model.decoder(functional.relu(pooled + model.embedding.bias)).squeeze(-1)
    assert torch.equal(model(batch), expected)
    assert torch.equal(named(batch), expected)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_padding_changes_no_prediction(pooling: str) -> None:
    model = pooled_by(pooling).eval()
    batch = make_variants(16, LENGTH, seed=0, shortest=8)
    longer = make_batch(functional.pad(batch.tokens, (0, 13)))
    torch.testing.assert_close(model(longer), model(batch), rtol=0, atol=1e-6)
    alone = make_batch(batch.tokens[:1, : int(batch.mask[0].sum())])
    torch.testing.assert_close(model(alone), model(batch)[:1], rtol=0, atol=1e-6)


def test_position_tells_apart_what_the_maximum_does_not() -> None:
    tokens = torch.ones(2, LENGTH, dtype=torch.int64)
    tokens[0, 5] = tokens[1, 12] = 4
    for pooling, can in (("max", False), ("mean", False), ("position", True)):
        first, second = pooled_by(pooling)(make_batch(tokens)).tolist()
        assert (abs(first - second) > 1e-4) is can, pooling


def test_position_refuses_sequences_of_several_lengths() -> None:
    with pytest.raises(UserError, match=r"pooling=position .* one length, here they have 8 to 20 residues: use"):
        pooled_by("position").see_lengths(torch.tensor([20, 8, 20]))


def test_what_a_pooling_learns_is_trained_like_the_embedding() -> None:
    for pooling, n in (("max", 2), ("mean", 2), ("attention", 4), ("position", 3)):
        groups = pooled_by(pooling, lr_embedding=0.2).configure_optimizers().param_groups
        assert [(group["lr"], len(group["params"])) for group in groups] == [(1e-3, 2), (0.2, n), (5e-6, 2)]


def test_weights_of_positions_are_kept_and_those_of_another_pooling_refused(tmp_path: Path) -> None:
    model, batch = pooled_by("position"), make_variants(8, LENGTH, seed=1)
    save_weights(model, tmp_path / "weights.safetensors")
    fresh = make_cnn(pooling="position", channels=7)
    load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh(batch), model(batch))
    with pytest.raises(UserError, match="position_weight, which the model lacks"):
        load_weights(make_cnn(channels=7), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="has the shape"):
        load_weights(make_cnn(pooling="position", channels=8), tmp_path / "weights.safetensors")
    shorter = make_batch(batch.tokens[:, :15])
    longer = make_batch(functional.pad(batch.tokens, (0, 3), value=2))
    assert model(shorter).isfinite().all()
    assert model(longer).isfinite().all()


def test_score_columns_reach_the_last_layer() -> None:
    batch = make_variants(64, LENGTH, seed=0)
    scores = torch.stack([batch.target * 2 + 1, torch.zeros(64)], dim=1)
    scores[3, 0] = torch.nan
    torch.manual_seed(1)
    model = make_cnn(channels=7)
    model.take_scores()
    seen = Batch(
        tokens=batch.tokens, mask=batch.mask, region=batch.mask, target=batch.target, index=batch.index, scores=scores
    )
    model.see_rows(lambda: seen)
    with torch.no_grad():
        added = model(seen) - pooled_by("max")(batch)
    assert torch.corrcoef(torch.stack([added, batch.target]))[0, 1] > 0.9
    assert added[3].abs() < 1, "a missing score is the mean"
    assert len(model.configure_optimizers().param_groups[2]["params"]) == 3
    with pytest.raises(UserError, match=r"trained with 2 score column\(s\), here are 0"):
        model(batch)
