"""Global epistasis: a curve that rises, a start at ridge's solution, pairs, and score columns."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional

from datasets.batches.batch import Batch
from datasets.splits.prepared import PreparedSplit
from models.epistasis import Epistasis, MonotoneCurve
from models.ridge import Ridge
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_batch, make_variants


def make(**changes: object) -> Epistasis:
    settings = {"rank": 0, "n_units": 5, "alpha": 1.0, "pair_alpha": 1.0, "lr": 0.01}
    return Epistasis(**(settings | changes))


def begun(batch: Batch, *, takes_scores: bool = False, **changes: object) -> Epistasis:
    torch.manual_seed(0)
    model = make(**changes)
    if takes_scores:
        model.take_scores()
    model.see_lengths(batch.mask.sum(dim=1))
    model.see_rows(lambda: batch)
    return model


@pytest.mark.parametrize("n_units", [0, 1, 6])
def test_the_curve_never_falls_whatever_its_parameters(n_units: int) -> None:
    curve = MonotoneCurve(n_units)
    latent = torch.linspace(-4, 4, 400)
    assert (curve(latent).diff() > 0).all()
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        for parameter in curve.parameters():
            parameter.data = 3 * torch.randn(parameter.shape, generator=generator)
        assert (curve(latent).diff() >= 0).all()


def test_it_begins_with_what_ridge_predicts() -> None:
    batch = make_variants(120, 12, seed=3, shortest=9)
    model, ridge = begun(batch, alpha=2.0), Ridge(alpha=2.0)
    ridge.solve(batch.tokens, batch.target.double())
    new = make_variants(40, 12, seed=3, shortest=7)
    with torch.no_grad():
        latent, expected = model.latent(new), ridge(new)
        unit = model.location + model.unit * latent
        torch.testing.assert_close(unit, expected, rtol=0, atol=1e-5)
        assert torch.equal(model(new).argsort(), expected.argsort())


def test_pairs_are_the_products_of_all_two_residues_factors() -> None:
    batch = make_variants(50, 8, seed=1)
    model = begun(batch, rank=3)
    model.factors.data = torch.randn(model.factors.shape, generator=torch.Generator().manual_seed(5))
    additive = begun(batch)
    with torch.no_grad():
        found = model.latent(batch) - additive.latent(batch)
        factors = (model.factors * model.varies[..., None])[torch.arange(8), batch.tokens]  # (B, L, R)
        expected = sum((factors[:, i] * factors[:, j]).sum(dim=1) for i in range(8) for j in range(i))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_padding_and_what_training_never_saw_add_nothing() -> None:
    batch = make_variants(60, 20, seed=2)
    model = begun(batch, rank=2)
    new = make_variants(16, 20, seed=2, shortest=8)
    expected = model(new)
    assert torch.equal(model(make_batch(functional.pad(new.tokens, (0, 5)))), expected)
    assert torch.equal(model(make_batch(functional.pad(new.tokens, (0, 5), value=3))), expected)
    shorter = make_batch(new.tokens[:, :8])
    torch.testing.assert_close(model(shorter), model(make_batch(functional.pad(shorter.tokens, (0, 12)))))


def test_training_lowers_the_loss_and_is_the_same_twice(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    split, found = get_split("synthetic_two_vs_rest"), []
    for _ in range(2):
        torch.manual_seed(0)
        model = make(rank=2)
        trainer = fit(model, split, name="synthetic_two_vs_rest", max_epochs=4)
        found.append((model, trainer.callback_metrics))
    (model, metrics), (again, same) = found
    assert all(torch.equal(metrics[name], same[name]) for name in metrics)
    assert metrics["val_spearman"] > 0.8
    save_weights(model, tmp_path / "weights.safetensors")
    fresh = make(rank=2)
    load_weights(fresh, tmp_path / "weights.safetensors")
    batch = make_variants(32, model.weight.shape[0], seed=1)
    assert torch.equal(fresh(batch), model(batch))
    assert torch.equal(again(batch), model(batch))
    assert fresh.n_parameters == model.n_parameters > 0


def test_score_columns_are_added_to_the_latent_phenotype(tmp_path: Path) -> None:
    plain = make_variants(80, 10, seed=4)
    scores = torch.stack([plain.target, torch.arange(80.0)], dim=1)
    scores[::7, 1] = torch.nan
    batch = Batch(
        tokens=plain.tokens, mask=plain.mask, region=plain.mask, target=plain.target, index=plain.index, scores=scores
    )
    model = begun(batch, takes_scores=True)
    assert torch.corrcoef(torch.stack([model(batch).detach(), batch.target]))[0, 1] > 0.95
    assert not [name for name in begun(plain).state_dict() if name.startswith("scores")]
    save_weights(model, tmp_path / "weights.safetensors")
    fresh = make()
    fresh.take_scores()
    load_weights(fresh, tmp_path / "weights.safetensors")
    assert torch.equal(fresh(batch), model(batch))
