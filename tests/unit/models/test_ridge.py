"""The closed form against scikit-learn, and against FLIP's published number."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor
from torch.nn import functional

from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.prepared import PreparedSplit
from datasets.validation.protocols import Fold
from models.metrics import spearman
from models.ridge import Ridge, solve
from tests.helpers.variants import make_batch, make_variants


def sklearn_predictions(tokens: Tensor, target: Tensor, new_tokens: Tensor, alpha: float) -> Tensor:
    def one_hot(tokens: Tensor) -> Tensor:
        return functional.one_hot(tokens, 23)[..., 1:].flatten(1).double()

    model = SklearnRidge(alpha=alpha).fit(one_hot(tokens).numpy(), target.double().numpy())
    return torch.from_numpy(model.predict(one_hot(new_tokens).numpy()))


def encoded(split: PreparedSplit, n_residues: int | None = None) -> Tensor:
    tokens, _ = ResidueTokenizer().encode(split.residues[:, :n_residues])
    return tokens.long()


@pytest.mark.slow
@pytest.mark.parametrize(("crop", "n_residues"), [("domain", 56), ("none", None)])
def test_gb1_equals_scikit_learn(
    crop: str, n_residues: int | None, get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    split = get_split("gb1_three_vs_rest")
    model = Ridge(alpha=1.0)
    trainer = fit(model, split, name="gb1_three_vs_rest", crop=crop)
    tokens, target = encoded(split, n_residues), torch.from_numpy(split.target)
    train, validation = torch.from_numpy(~split.validation), torch.from_numpy(split.validation)
    expected = sklearn_predictions(tokens[train], target[train], tokens[validation], alpha=1.0)
    prediction = model(make_batch(tokens[validation]))
    torch.testing.assert_close(prediction.double(), expected, rtol=0, atol=1e-4)
    metrics = trainer.callback_metrics
    assert metrics["val_spearman"] == pytest.approx(spearman(expected, target[validation]), abs=1e-4)
    assert metrics["val_loss"] == pytest.approx(functional.mse_loss(prediction, target[validation]).item())
    train_prediction = model(make_batch(tokens[train]))
    assert metrics["training_loss"] == pytest.approx(
        functional.mse_loss(train_prediction, target[train]).item(), rel=1e-5
    )


def test_flips_published_ridge_on_gb1_two_vs_rest(
    get_split: Callable[[str], PreparedSplit],
    fit: Callable[..., Trainer],
    everything: Callable[[PreparedSplit], Fold],
) -> None:
    split = get_split("gb1_two_vs_rest")
    model = Ridge(alpha=1.0)
    fit(model, split, name="gb1_two_vs_rest", crop="none", fold=everything(split))
    (path,) = Path(os.environ["FLIPSEARCH_DATA"]).glob("*/gb1/splits.zip")
    with zipfile.ZipFile(path) as archive, archive.open("splits/two_vs_rest.csv") as file:
        table = pd.read_csv(file)
    test = table[table["set"] == "test"]
    codes = torch.tensor([list(sequence.encode()) for sequence in test["sequence"]], dtype=torch.uint8)
    tokens, _ = ResidueTokenizer().encode(codes.numpy())
    rho = spearman(model(make_batch(tokens.long())), torch.tensor(test["target"].to_numpy()))
    assert rho == pytest.approx(0.594, abs=0.005)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize(("n", "length"), [(400, 9), (40, 30)], ids=["normal equations", "dual"])
def test_both_forms_equal_scikit_learn(n: int, length: int, alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.layers.one_hot.MAX_ONE_HOT", 2000)  # in many slices
    batch = make_variants(n, length, seed=n, shortest=length // 2)
    new = make_variants(50, length, seed=7, shortest=length // 2).tokens
    weight, intercept, _ = solve(batch.tokens, batch.target.double(), alpha, 23)
    prediction = weight[torch.arange(length), new].sum(dim=1) + intercept
    expected = sklearn_predictions(batch.tokens, batch.target, new, alpha)
    torch.testing.assert_close(prediction, expected, rtol=0, atol=1e-8)


def test_an_alpha_lost_in_rounding_still_gives_a_finite_answer() -> None:
    batch = make_variants(400, 9, seed=0)
    weight, _, _ = solve(batch.tokens, batch.target.double(), 1e-300, 23)
    expected, _, _ = solve(batch.tokens, batch.target.double(), 1e-6, 23)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-4)


def test_sequences_that_are_all_the_same_give_the_mean() -> None:
    weight, intercept, _ = solve(torch.ones(4, 3, dtype=torch.int64), torch.arange(4.0).double(), 1.0, 23)
    assert not weight.any()
    assert intercept == 1.5


def fitted(alpha: float = 1.0) -> Ridge:
    batch = make_variants(60, 20, seed=2)
    model = Ridge(alpha=alpha)
    model.weight, model.intercept, _ = solve(batch.tokens, batch.target.double(), alpha, 23)
    return model


def test_padding_and_what_training_never_saw_add_nothing() -> None:
    model, batch = fitted(), make_variants(16, 20, seed=2, shortest=8)
    expected = model(batch)
    assert torch.equal(model(make_batch(functional.pad(batch.tokens, (0, 5)))), expected)
    assert torch.equal(model(make_batch(functional.pad(batch.tokens, (0, 5), value=3))), expected)
    shorter = make_batch(batch.tokens[:, :8])
    longer = make_batch(functional.pad(shorter.tokens, (0, 12)))
    torch.testing.assert_close(model(shorter), model(longer))


def test_a_checkpoint_restores_the_predictions(tmp_path: Path) -> None:
    model, batch = fitted(), make_variants(16, 20, seed=2)
    save_file(model.state_dict(), tmp_path / "best.safetensors")
    fresh = Ridge(alpha=5.0)
    fresh.load_state_dict(load_file(tmp_path / "best.safetensors"))
    assert torch.equal(fresh(batch), model(batch))


def test_mixed_precision_changes_nothing(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    split = get_split("synthetic_two_vs_rest")
    exact, mixed = Ridge(alpha=1.0), Ridge(alpha=1.0)
    fit(exact, split, name="synthetic_two_vs_rest")
    trainer = fit(mixed, split, name="synthetic_two_vs_rest", precision="bf16-mixed")
    assert torch.equal(mixed.weight, exact.weight)
    assert trainer.callback_metrics["val_spearman"].isfinite()
