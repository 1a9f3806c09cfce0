"""Zero-shot scores in exact models: standardised, missing ones, and nothing where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as PlainRidge
from torch import Tensor
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.closed_form import ClosedForm
from models.layers.score_features import ScoreFeatures
from models.layers.score_head import ScoreHead
from models.layers.sequence_kernel import Beside
from models.ridge import Ridge
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_variants
from tests.unit.models.test_kernel import make_kernel

SETTINGS = [
    {"score_mean": True, "score_mean_variance": 0.5},
    {"score_kernel": "added", "score_variance": 0.7, "score_length_scale": 2.0},
    {"score_kernel": "multiplied", "score_length_scale": 2.0},
    {"score_kernel": "both", "score_mean": True},
]


def with_scores(batch: Batch, seed: int = 0, missing: bool = True) -> Batch:
    scores = torch.randn(len(batch), 3, generator=torch.Generator().manual_seed(seed)) * 5 + 2
    if missing:
        scores[::4, 1] = torch.nan
    return replace(batch, scores=scores)


def plain_features(scores: Tensor, training: Tensor) -> np.ndarray:
    given, train = scores.double().numpy(), training.double().numpy()
    columns = [(given[:, k] - np.nanmean(train[:, k])) / np.nanstd(train[:, k]) for k in range(given.shape[1])]
    indicators = [np.isnan(given[:, k]) - np.isnan(train[:, k]).mean() for k in range(3) if np.isnan(train[:, k]).any()]
    return np.nan_to_num(np.stack([*columns, *indicators], axis=1))


def test_columns_are_standardised_on_training_rows_and_missing_values_are_their_mean() -> None:
    train, new = with_scores(make_variants(40, 5, seed=1)), with_scores(make_variants(10, 5, seed=2), seed=3)
    features = ScoreFeatures()
    features.fit(train.scores)
    for batch in (train, new):
        np.testing.assert_allclose(features(batch.scores), plain_features(batch.scores, train.scores), atol=1e-6)
    assert features(train.scores).mean(dim=0).abs().max() < 1e-12
    # Where training lacks none, there is no indicator.
    whole = with_scores(make_variants(40, 5, seed=1), missing=False)
    features.fit(whole.scores)
    assert features(new.scores).shape == (10, 3)
    assert features(new.scores)[0, 1] == 0
    # Constant columns and those without a value say nothing.
    features.fit(torch.stack([torch.ones(6), torch.full((6,), torch.nan)], dim=1))
    assert not features(torch.tensor([[1.0, 4.0], [1.0, torch.nan]]))[:, 0].any()
    assert features(torch.tensor([[1.0, torch.nan]])).tolist() == [[0.0, 0.0]]


def test_other_columns_than_those_of_training_are_refused() -> None:
    features = ScoreFeatures()
    features.fit(torch.randn(9, 2))
    for given in (None, torch.randn(3, 1)):
        with pytest.raises(UserError, match=r"trained with 2 score column\(s\), here are [01]"):
            features(given)


def test_ridge_equals_scikit_learn_on_both_kinds_of_columns() -> None:
    new = with_scores(make_variants(20, 9, seed=2), seed=3)
    for n in (30, 400):  # by its dual, and by its normal equations
        train = with_scores(make_variants(n, 9, seed=1))
        model = taking_scores(Ridge(alpha=3.0, score_alpha=0.2))
        model.solve(train.tokens, train.target.double(), train.scores)

        def columns(batch: Batch, train: Batch = train) -> np.ndarray:
            one_hot = functional.one_hot(batch.tokens, 23)[:, :, 1:].flatten(1).double().numpy()
            seen = functional.one_hot(train.tokens, 23)[:, :, 1:].flatten(1).any(dim=0).numpy()
            return np.hstack([one_hot * seen, plain_features(batch.scores, train.scores) * (3.0 / 0.2) ** 0.5])

        plain = PlainRidge(alpha=3.0).fit(columns(train), train.target.double().numpy())
        np.testing.assert_allclose(model(new).numpy(), plain.predict(columns(new)), atol=1e-5)
        assert model.n_parameters == int(torch.count_nonzero(model.weight)) + 1 + 4


def taking_scores(model: ClosedForm) -> ClosedForm:
    """As a run builds it that has score columns."""
    model.take_scores()
    return model


@pytest.mark.parametrize("changes", SETTINGS)
def test_the_kernel_equals_its_formula(changes: dict) -> None:
    train, new = with_scores(make_variants(50, 9, seed=1)), with_scores(make_variants(20, 9, seed=1), seed=3)
    model = taking_scores(make_kernel(**changes))
    model.solve(train.tokens, train.target.double(), train.scores)
    z, others = plain_features(train.scores, train.scores), plain_features(new.scores, train.scores)
    kind, v = changes.get("score_kernel", "none"), changes.get("score_variance", 1.0)

    def whole(rows: Tensor, a: np.ndarray) -> np.ndarray:
        sequences = make_kernel()
        sequences.solve(train.tokens, train.target.double())
        found = sequences._covariances(rows, Beside())[0].numpy()
        alike = np.exp(-np.square(a[:, None] - z).sum(axis=2) / 2 / changes.get("score_length_scale", 1.0))
        found = found * alike if kind in ("multiplied", "both") else found
        found = found + v * alike if kind in ("added", "both") else found
        return found + changes.get("score_mean_variance", 1.0) * a @ z.T if changes.get("score_mean") else found

    target = train.target.double().numpy()
    scaled = (target - target.mean()) / target.std()
    dual = np.linalg.solve(whole(train.tokens, z) + 0.1 * np.eye(50), scaled)
    expected = whole(new.tokens, others) @ dual * target.std() + target.mean()
    np.testing.assert_allclose(model(new).numpy(), expected, atol=1e-5)
    _, std = model.predict_with_std(train)
    assert std.isfinite().all()
    sought = taking_scores(make_kernel(marginal_likelihood=True, **changes))
    sought.solve(train.tokens, train.target.double(), train.scores)
    assert sought.hyperparameters != sought.given


@pytest.mark.parametrize("changes", SETTINGS)
def test_without_scores_nothing_changes_to_the_bit(changes: dict) -> None:
    train, new = make_variants(60, 9, seed=1), make_variants(20, 9, seed=2)
    plain, model = make_kernel(), make_kernel(**changes)
    for one in (plain, model):
        one.solve(train.tokens, train.target.double(), None)
    assert torch.equal(plain(new), model(new))
    # One that does not use them does not look at them.
    taking_scores(plain).solve(train.tokens, train.target.double(), with_scores(train).scores)
    assert torch.equal(plain(with_scores(new)), model(new))


@pytest.mark.parametrize("changes", [None, *SETTINGS])
def test_a_checkpoint_holds_what_was_learnt_of_the_scores(changes: dict | None, tmp_path: Path) -> None:
    train, new = with_scores(make_variants(60, 9, seed=1)), with_scores(make_variants(20, 9, seed=2))

    def make() -> ClosedForm:
        return taking_scores(Ridge(alpha=2.0) if changes is None else make_kernel(**changes))

    model, fresh = make(), make()
    model.solve(train.tokens, train.target.double(), train.scores)
    save_weights(model, tmp_path / "best.safetensors")
    load_weights(fresh, tmp_path / "best.safetensors")
    assert torch.equal(fresh(new), model(new))
    with pytest.raises(UserError, match="trained with 3 score column"):
        fresh(replace(new, scores=None))


def test_scores_go_where_their_rows_go() -> None:
    batch = with_scores(make_variants(12, 9, seed=1, shortest=3), missing=False)
    parts = batch.parts(30)
    assert len(parts) > 1
    assert torch.equal(torch.cat([part.scores for part in parts]), batch.scores[torch.cat([p.index for p in parts])])
    assert torch.equal(batch.to("cpu").scores, batch.scores)
    assert batch.to("meta").scores.device.type == "meta"


def test_weights_whose_score_columns_are_no_columns_are_refused() -> None:
    features = ScoreFeatures()
    features.fit(torch.tensor([[1.0], [2.0]]))
    bad = {name: tensor.squeeze() for name, tensor in features.state_dict().items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        ScoreFeatures().load_state_dict(bad)


@pytest.mark.parametrize("kind", ["ridge", "kernel", "head"])
def test_weights_of_another_width_than_their_score_columns_are_refused(kind: str) -> None:
    train = with_scores(make_variants(40, 5, seed=1))

    def make() -> torch.nn.Module:
        if kind == "head":
            return ScoreHead()
        return taking_scores(Ridge(alpha=1.0) if kind == "ridge" else make_kernel(score_mean=True))

    model = make()
    if isinstance(model, ScoreHead):
        model.fit(train.scores, train.target)
    else:
        model.solve(train.tokens, train.target.double(), train.scores)
    state = model.state_dict()
    make().load_state_dict(state)
    name = {"ridge": "score_weight", "kernel": "train_features", "head": "weight"}[kind]
    state[name] = state[name][..., :-1].contiguous()
    load = make()
    with pytest.raises(RuntimeError, match=f"{name} is of 3 features of score columns, of which there are 4"):
        # A model with fixed tables takes the weights' shapes first.
        getattr(load, "load_trained_state", load.load_state_dict)(state)


def test_a_state_is_loaded_into_the_weights_that_an_optimizer_has() -> None:
    scores, target = torch.randn(20, 2), torch.randn(20)
    before, after = ScoreHead(), ScoreHead()
    before.fit(scores, target)
    after.fit(scores, -target)
    known_to_an_optimizer = after.weight
    after.load_state_dict(before.state_dict())
    assert after.weight is known_to_an_optimizer
    assert torch.equal(after.weight, before.weight)
    new = ScoreHead()  # which has seen no rows
    new.load_state_dict(before.state_dict())
    assert torch.equal(new.weight, before.weight)


def test_score_columns_are_not_rounded_where_the_network_computes_in_bfloat16() -> None:
    random = np.random.default_rng(4)
    scores, target = torch.as_tensor(random.normal(size=(60, 3))), torch.as_tensor(random.normal(size=60))
    head = ScoreHead()
    head.fit(scores, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head(scores)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, head(scores))
