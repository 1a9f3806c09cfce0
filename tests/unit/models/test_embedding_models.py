"""Embeddings of a file in models: standardised, beside the residues or alone, and nothing where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import Ridge as PlainRidge

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.embedding_head import EmbeddingHead
from models.layers.embedding_features import EmbeddingFeatures
from models.ridge import Ridge
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_variants
from tests.unit.models.test_kernel import make_kernel

WIDTH = 7


def with_vectors(batch: Batch, seed: int = 0) -> Batch:
    drawn = torch.randn(len(batch), WIDTH, generator=torch.Generator().manual_seed(seed)) * 5 + 40
    drawn[:, 3] = 2.5  # which tells nothing
    return replace(batch, features=drawn, target=torch.randn(len(batch), generator=torch.Generator().manual_seed(seed)))


def standardised(batch: Batch, train: Batch) -> np.ndarray:
    given, known = batch.features.double().numpy(), train.features.double().numpy()
    spread = known.std(axis=0)
    return np.where(spread > 1e-6, (given - known.mean(axis=0)) / np.where(spread > 1e-6, spread, 1), 0) / WIDTH**0.5


def solved(model, train: Batch):
    model.take_embeddings(WIDTH)
    model.solve(train.tokens, train.target.double(), embeddings=train.features)
    return model


def test_they_are_standardised_and_what_is_constant_is_nothing() -> None:
    train, new = with_vectors(make_variants(40, 5, seed=1)), with_vectors(make_variants(10, 5, seed=2), seed=3)
    features = EmbeddingFeatures(WIDTH)
    features.fit(train.features.split(7))
    np.testing.assert_allclose(features(new.features), standardised(new, train), atol=1e-5)
    assert not features(new.features)[:, 3].any()
    for given in (None, torch.randn(3, 2)):
        with pytest.raises(UserError, match="was trained with embeddings of 7 values, here are"):
            features(given)


@pytest.mark.parametrize("n", [12, 400])  # by its dual, and by its normal equations
@pytest.mark.parametrize("way", ["both", "alone"])
def test_ridge_equals_scikit_learn(n: int, way: str) -> None:
    train, new = with_vectors(make_variants(n, 9, seed=1)), with_vectors(make_variants(20, 9, seed=2), seed=3)
    model = solved(Ridge(alpha=3.0, embeddings=way, embedding_alpha=0.2), train)

    def columns(batch: Batch) -> np.ndarray:
        seen = standardised(batch, train) * (3.0 / 0.2) ** 0.5
        one_hot = torch.nn.functional.one_hot(batch.tokens, model.tokenizer.n_tokens)[:, :, 1:].flatten(1).numpy()
        return seen if way == "alone" else np.concatenate([one_hot, seen], axis=1)

    plain = PlainRidge(alpha=3.0).fit(columns(train), train.target.double())
    np.testing.assert_allclose(model(new).double(), plain.predict(columns(new)), atol=1e-4)
    assert model.n_parameters > WIDTH


def test_the_kernel_alone_is_a_gaussian_process_on_them() -> None:
    train, new = with_vectors(make_variants(40, 9, seed=1)), with_vectors(make_variants(20, 9, seed=2), seed=3)
    settings = {"embeddings": "alone", "embedding_variance": 0.7, "embedding_length_scale": 0.5, "noise": 0.1}
    model = solved(make_kernel(**settings), train)
    plain = GaussianProcessRegressor(
        ConstantKernel(0.7) * RBF(0.5**0.5), alpha=0.1, optimizer=None, normalize_y=True
    ).fit(standardised(train, train), train.target.double())
    mean, std = plain.predict(standardised(new, train), return_std=True)
    found, deviation = model.predict_with_std(new)
    np.testing.assert_allclose(found, mean, atol=1e-4)
    np.testing.assert_allclose(deviation, std, atol=1e-4)


@pytest.mark.parametrize("kernel", ["added", "multiplied"])
def test_the_kernel_has_them_beside_the_residues(kernel: str) -> None:
    train, new = with_vectors(make_variants(40, 9, seed=1)), with_vectors(make_variants(20, 9, seed=2), seed=3)
    model = solved(make_kernel(embeddings="both", embedding_kernel=kernel), train)
    without = make_kernel()
    without.solve(train.tokens, train.target.double())
    assert torch.isfinite(model(new)).all()
    assert not torch.equal(model(new), without(new))
    plain = make_kernel()  # a batch's embeddings are nothing to a model that sees none
    plain.solve(train.tokens, train.target.double())
    assert torch.equal(plain(new), without(replace(new, features=None)))


@pytest.mark.parametrize("make", [lambda: Ridge(alpha=1.0, embeddings="both"), lambda: make_kernel(embeddings="both")])
def test_weights_come_back_and_those_of_another_width_are_refused(make, tmp_path: Path) -> None:
    train = with_vectors(make_variants(40, 9, seed=1))
    model = solved(make(), train)
    save_weights(model, tmp_path / "w.safetensors")
    again, other = make(), make()
    again.take_embeddings(WIDTH)
    load_weights(again, tmp_path / "w.safetensors")
    assert torch.equal(again(train), model(train))
    other.take_embeddings(WIDTH + 1)
    with pytest.raises(UserError, match="weights of another architecture"):
        load_weights(other, tmp_path / "w.safetensors")


def test_the_heads_attention_does_not_see_padding() -> None:
    torch.manual_seed(0)
    settings = {"embeddings": "alone", "head_width": 8, "head_dropout": 0.0, "lr": 1e-3, "weight_decay": 0.0}
    model = EmbeddingHead(pooling="attention", **settings)
    model.take_embeddings(WIDTH)
    batch = make_variants(6, 9, seed=1, shortest=4)
    states = torch.randn(6, batch.tokens.shape[1], WIDTH)
    model.see_features([states[batch.mask]])
    found = model(replace(batch, features=states))
    changed = states.masked_fill(~batch.mask[..., None], 7.0)
    assert torch.equal(found, model(replace(batch, features=changed)))
