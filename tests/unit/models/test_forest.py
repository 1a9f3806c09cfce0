"""Trees as arrays against scikit-learn's, kept without pickles; what they are grown on."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.common.errors import TooManyRows, UserError
from models.bounds import MAX_FOREST_ROWS
from models.forest import Forest
from models.layers.amino_acids import vhse
from models.layers.mutation_features import MutationFeatures
from models.metrics import is_constant
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_batch, make_variants

KINDS = ["random_forest", "extra_trees", "boosting"]


def make(kind: str = "extra_trees", seed: int = 0, **changes: object) -> Forest:
    settings = {"n_trees": 12, "max_features": 0.5, "min_samples_leaf": 2, "learning_rate": 0.1, "max_leaves": 8}
    torch.manual_seed(seed)
    return Forest(kind=kind, **(settings | changes))


def grown(batch: Batch, kind: str = "extra_trees", **changes: object) -> Forest:
    model = make(kind, **changes)
    if batch.scores is not None:
        model.take_scores()
    model.solve(batch.tokens, batch.target.double(), batch.scores)
    return model


def with_scores(batch: Batch, scores: torch.Tensor) -> Batch:
    return Batch(
        tokens=batch.tokens, mask=batch.mask, region=batch.mask, target=batch.target, index=batch.index, scores=scores
    )


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_scikit_learns(kind: str) -> None:
    batch, new = make_variants(150, 24, seed=1), make_variants(60, 24, seed=1, shortest=20)
    model = grown(batch, kind)
    regressor = model._regressor().fit(model._features(batch.tokens, None).numpy(), batch.target.double().numpy())
    expected = regressor.predict(model._features(new.tokens, None).numpy())
    torch.testing.assert_close(model(new).double(), torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert model.n_parameters == len(model.trees.number) > 12


def test_more_rows_than_it_takes_are_refused_unless_a_part_is_asked_for() -> None:
    make().check_size(MAX_FOREST_ROWS)
    with pytest.raises(TooManyRows, match=r"at most 100,000 .* here are 100,001: set model.max_train=100000 to train"):
        make().check_size(MAX_FOREST_ROWS + 1)
    some = make(max_train=50)
    some.check_size(10**6)
    assert (some.max_rows, make().max_rows) == (50, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_everything(kind: str) -> None:
    batch = make_variants(100, 12, seed=1)
    first, again, other = (grown(batch, kind, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(p, q) for p, q in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert first.random_state != other.random_state
    assert not torch.equal(first(batch), other(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_arrays_and_predict_without_scikit_learn(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_variants(100, 12, seed=1)
    scored = with_scores(batch, torch.stack([batch.target, torch.full((100,), torch.nan)], dim=1))
    model = grown(scored, kind)
    path = tmp_path / "weights.safetensors"
    save_weights(model, path)
    assert {str(tensor.dtype) for tensor in load_file(path).values()} <= {
        f"torch.{name}" for name in ("int64", "int32", "int16", "float32", "float64", "bool")
    }
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    fresh = make(kind, seed=9)
    fresh.take_scores()
    load_weights(fresh, path)
    assert torch.equal(fresh(scored), model(scored))
    assert fresh.n_parameters == model.n_parameters


def test_weights_that_lead_nowhere_are_refused_in_a_sentence(tmp_path: Path) -> None:
    batch = make_variants(100, 12, seed=1)
    path = tmp_path / "weights.safetensors"
    good = grown(batch).state_dict()
    first = int((good["trees.feature"] >= 0).nonzero()[0])
    for name, at, value in [
        ("trees.right", first, first),
        ("trees.right", first, 10**6),
        ("trees.feature", first, 999),
        ("trees.roots", 0, -1),
        ("mutations.consensus", 0, 40),
    ]:
        bad = {key: tensor.clone() for key, tensor in good.items()}
        bad[name][at] = value
        save_file(bad, path)
        with pytest.raises(UserError, match=r"its (trees|consensus)"):
            load_weights(make(), path)
    bare = {
        key: tensor[:0] if key in {"trees.number", "trees.feature", "trees.right"} else tensor
        for key, tensor in good.items()
    }
    save_file(bare, path)
    with pytest.raises(UserError, match="roots that there are not"):
        load_weights(make(), path)


def test_it_ranks_variants_at_positions_that_training_never_saw() -> None:
    wild = torch.randint(1, 21, (30,), generator=torch.Generator().manual_seed(0))
    tokens = wild.repeat(300, 1)
    at = torch.arange(300) % 15
    tokens[torch.arange(300), at] = torch.arange(300) // 15 + 1
    target = vhse()[tokens[torch.arange(300), at], 0]
    model = grown(make_batch(tokens, target))
    new = wild.repeat(20, 1)
    new[:, 22] = torch.arange(20) + 1
    prediction = model(make_batch(new))
    assert not is_constant(prediction)
    assert torch.corrcoef(torch.stack([prediction, vhse()[new[:, 22], 0]]))[0, 1] > 0.8


def test_features_do_not_depend_on_padding_or_on_the_batch() -> None:
    features = MutationFeatures()
    batch = make_variants(50, 30, seed=2, shortest=25)
    features.fit(batch.tokens)
    found = features(batch.tokens)
    assert found.shape == (50, features.n_features)
    assert torch.equal(features(functional.pad(batch.tokens, (0, 4))), found)
    assert torch.equal(features(batch.tokens[7:8, : int(batch.mask[7].sum())]), found[7:8])
    assert features.has_several
    assert len(features.sites) == 0, "too many vary"


def test_few_sites_are_described_one_by_one() -> None:
    tokens = torch.ones(40, 30, dtype=torch.int64)
    tokens[:, [3, 9]] = torch.randint(1, 21, (40, 2), generator=torch.Generator().manual_seed(1))
    features = MutationFeatures()
    features.fit(tokens)
    assert features.sites.tolist() == [3, 9]
    assert torch.equal(features(tokens)[:, -16:], vhse()[tokens[:, [3, 9]]].flatten(1))


def test_the_table_of_properties_is_the_published_one() -> None:
    """Its columns are principal components: mean 0, deviation 1, and uncorrelated within each kind of property."""
    table = vhse()[1:21].double()
    assert table.mean(dim=0).abs().max() < 0.002
    assert (table.std(dim=0) - 1).abs().max() < 0.002
    correlation = torch.corrcoef(table.T) - torch.eye(8)
    for kind in (slice(0, 2), slice(2, 4), slice(4, 8)):
        assert correlation[kind, kind].abs().max() < 0.005
    assert not vhse()[[0, 21]].any()
