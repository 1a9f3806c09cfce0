"""The Gaussian process against scikit-learn's, and what a checkpoint of it holds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from torch import Tensor
from torch.nn import functional

from datasets.common.errors import UserError
from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.prepared import PreparedSplit
from models.bounds import MAX_INDUCED_ROWS, MAX_KERNEL_ROWS
from models.kernel import Kernel
from models.layers.gaussian_process import centre_of, log_marginal_likelihood
from models.layers.one_hot import HammingTo
from models.metrics import spearman
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_batch, make_variants

SETTINGS = {
    "length_scale": 6.0,
    "variance": 0.8,
    "linear_variance": 0.05,
    "noise": 0.1,
    "marginal_likelihood": False,
    "max_train": None,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices as small as these only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_kernel(**changes: object) -> Kernel:
    return Kernel(**(SETTINGS | changes))


def solved(tokens: Tensor, target: Tensor, **changes: object) -> Kernel:
    model = make_kernel(**changes)
    model.solve(tokens, target.double())
    return model


def sklearn_process(
    tokens: Tensor, target: Tensor, new: Tensor, changes: dict[str, float]
) -> tuple[Tensor, Tensor, float]:
    """Mean and standard deviation at `new`, and the log marginal likelihood."""
    settings = SETTINGS | changes
    length = max(tokens.shape[1], new.shape[1])

    def one_hot(tokens: Tensor) -> np.ndarray:
        padded = functional.pad(tokens, (0, length - tokens.shape[1]))
        return functional.one_hot(padded, 23).flatten(1).double().numpy()  # padding is a residue of its own

    centre = one_hot(tokens).mean(axis=0)
    kernel = ConstantKernel(settings["variance"]) * RBF(settings["length_scale"] ** 0.5)
    if settings["linear_variance"]:
        kernel += ConstantKernel(settings["linear_variance"]) * DotProduct(sigma_0=1e-9)
    process = GaussianProcessRegressor(kernel, alpha=settings["noise"], optimizer=None, normalize_y=True)
    process.fit(one_hot(tokens) - centre, target.double().numpy())
    mean, std = process.predict(one_hot(new) - centre, return_std=True)
    return torch.from_numpy(mean), torch.from_numpy(std), process.log_marginal_likelihood_value_


@pytest.mark.parametrize("changes", [{}, {"linear_variance": 0.0, "length_scale": 1.5}, {"noise": 2.0}])
@pytest.mark.parametrize("shortest", [12, 5], ids=["one length", "many lengths"])
def test_equals_scikit_learn(changes: dict[str, float], shortest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.layers.one_hot.MAX_ONE_HOT", 2000)  # in many slices
    monkeypatch.setattr("models.kernel._MAX_COVARIANCES", 1000)
    train = make_variants(80, 12, seed=1, shortest=shortest)
    new = make_variants(40, 14, seed=3, shortest=shortest)  # of another protein, longer than any in training
    batch = make_batch(torch.cat([new.tokens, functional.pad(train.tokens[:10], (0, 2))]))
    target = 5.0 + 3.0 * train.target
    mean, std, likelihood = sklearn_process(train.tokens, target, batch.tokens, changes)
    model = solved(train.tokens, target, **changes)
    found, found_std = model.predict_with_std(batch)
    torch.testing.assert_close(found.double(), mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(found_std.double(), std, rtol=0, atol=1e-4)
    assert torch.equal(model(batch), found)
    standardised = (target.double() - target.double().mean()) / target.double().std(correction=0)
    distance = HammingTo(train.tokens, 23).among_themselves()
    own, _ = log_marginal_likelihood(distance, centre_of(distance), standardised, model.theta)
    assert own == pytest.approx(likelihood, abs=1e-4)


def test_distances_count_positions_that_differ_and_the_difference_in_length() -> None:
    train = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 0], [1, 2, 3, 0]])
    new = torch.tensor([[1, 2, 3, 4, 0, 0], [2, 2, 5, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, 4, 6, 7]])
    distances = HammingTo(train, 23)
    expected = [[0, 2, 1], [3, 1, 2], [3, 2, 2], [2, 4, 3]]
    assert distances(new).tolist() == expected
    assert distances(new[:, :4])[:3].tolist() == expected[:3]
    assert distances.among_themselves().tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]


def test_padding_changes_nothing() -> None:
    train = make_variants(60, 12, seed=1, shortest=5)
    new = make_variants(20, 12, seed=2, shortest=5)
    model = solved(train.tokens, train.target)
    mean, std = model.predict_with_std(new)
    wider = functional.pad(new.tokens, (0, 5), value=3)
    masked = make_batch(functional.pad(new.tokens, (0, 5)))
    for same in (
        model.predict_with_std(masked),
        solved(functional.pad(train.tokens, (0, 4)), train.target).predict_with_std(new),
        # What stands at padding is never looked at.
        model.predict_with_std(type(new)(**{**fields(masked), "tokens": torch.where(masked.mask, wider, 3)})),
    ):
        torch.testing.assert_close(same, (mean, std), rtol=0, atol=1e-6)
    short = make_batch(new.tokens[(new.tokens != 0).sum(1) <= 9][:, :9])
    assert len(short) > 1
    torch.testing.assert_close(model(short), mean[(new.tokens != 0).sum(1) <= 9], rtol=0, atol=1e-6)


def fields(batch: object) -> dict[str, Tensor]:
    return {name: getattr(batch, name) for name in ("tokens", "mask", "region", "target", "index")}


def test_uncertainty_is_small_where_measured_and_that_of_the_prior_far_away() -> None:
    train = make_variants(60, 12, seed=1)
    model = solved(train.tokens, 2.0 * train.target, noise=1e-3, linear_variance=0.0, length_scale=1.0)
    _, near = model.predict_with_std(make_batch(train.tokens))
    far_away = make_batch(torch.full((1, 60), 21))
    mean, far = model.predict_with_std(far_away)
    scale = 2.0 * float(train.target.std(correction=0))
    assert float(near.max()) < 0.1 * scale
    assert float(far) == pytest.approx(SETTINGS["variance"] ** 0.5 * scale, rel=1e-4)
    assert float(mean) == pytest.approx(2.0 * float(train.target.mean()), abs=1e-4)


def test_marginal_likelihood_finds_what_the_data_were_drawn_from() -> None:
    tokens = make_variants(400, 12, seed=1).tokens
    distance = HammingTo(tokens, 23).among_themselves()
    drawn_from = solved(tokens, torch.randn(400), length_scale=3.0, variance=1.0, linear_variance=0.0, noise=0.04)
    matrix = torch.exp(-distance / 3.0) + 0.04 * torch.eye(400)
    target = torch.linalg.cholesky(matrix) @ torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    start = {"length_scale": 20.0, "variance": 0.2, "linear_variance": 0.0, "noise": 0.5}
    model = solved(tokens, target, **start, marginal_likelihood=True)
    standardised = (target - target.mean()) / target.std(correction=0)

    def likelihood(theta: Tensor) -> float:
        return log_marginal_likelihood(distance, centre_of(distance), standardised, theta)[0]

    before = likelihood(torch.tensor(list(start.values()), dtype=torch.float64))
    assert likelihood(model.theta) > before + 20
    assert likelihood(model.theta) >= likelihood(drawn_from.theta) - 1.0
    found = model.hyperparameters
    assert found.linear_variance == 0
    assert 1.5 < found.length_scale < 6
    assert 0.02 < found.noise / found.variance < 0.08
    with_linear = solved(tokens, target, **(start | {"linear_variance": 0.1}), marginal_likelihood=True)
    assert likelihood(with_linear.theta) > before + 20


def test_derivatives_of_the_marginal_likelihood_are_those_of_finite_differences() -> None:
    train = make_variants(30, 8, seed=1)
    model = solved(train.tokens, train.target)
    distance, target = HammingTo(train.tokens, 23).among_themselves(), train.target.double()
    centre, step = centre_of(distance), 1e-6
    _, gradient = log_marginal_likelihood(distance, centre, target, model.theta)
    for i in range(4):
        change = torch.zeros(4, dtype=torch.float64)
        change[i] = step
        above, _ = log_marginal_likelihood(distance, centre, target, model.theta + change)
        below, _ = log_marginal_likelihood(distance, centre, target, model.theta - change)
        assert gradient[i] == pytest.approx((above - below) / (2 * step), rel=1e-4)


def test_a_run_like_any_other(get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]) -> None:
    split = get_split("synthetic_two_vs_rest")
    model, mixed = make_kernel(), make_kernel()
    trainer = fit(model, split, name="synthetic_two_vs_rest")
    fit(mixed, split, name="synthetic_two_vs_rest", precision="bf16-mixed")
    tokens = ResidueTokenizer().encode(split.residues)[0].long()
    train = torch.from_numpy(~split.validation)
    target = torch.from_numpy(split.target)
    expected, _, _ = sklearn_process(tokens[train], target[train], tokens[~train], {})
    prediction = model(make_batch(tokens[~train]))
    torch.testing.assert_close(prediction.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(mixed(make_batch(tokens[~train])), prediction, rtol=0, atol=1e-6)
    assert trainer.callback_metrics["val_spearman"] == pytest.approx(spearman(expected, target[~train]), abs=1e-4)
    assert trainer.callback_metrics["training_loss"] == pytest.approx(
        functional.mse_loss(model(make_batch(tokens[train])), target[train]).item(), rel=1e-5
    )


def test_a_larger_set_is_refused_or_a_named_part_of_it_taken(
    get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    make_kernel().check_size(MAX_KERNEL_ROWS)
    make_kernel(max_train=100).check_size(10**6)
    make_kernel().check_size(MAX_INDUCED_ROWS)
    with pytest.raises(UserError, match=r"at most 100,000 training sequences, here are 133,798: set model\.max_train="):
        make_kernel().check_size(133798)
    split = get_split("synthetic_two_vs_rest")
    parts = [make_kernel(max_train=50), make_kernel(max_train=50)]
    for model in parts:
        fit(model, split, name="synthetic_two_vs_rest")
        assert len(model.train_tokens) == len(model.dual) == 50
    assert torch.equal(parts[0].train_tokens, parts[1].train_tokens)
    all_tokens = ResidueTokenizer().encode(split.residues)[0].long()
    first = all_tokens[torch.from_numpy(~split.validation)][:50]
    assert not torch.equal(parts[0].train_tokens.long(), first), "the first rows of the file are no random sample"


def test_a_checkpoint_is_small_and_restores_predictions_with_their_deviation(tmp_path: Path) -> None:
    train, new = make_variants(120, 40, seed=2, shortest=8), make_variants(16, 40, seed=4)
    model = solved(train.tokens, train.target, marginal_likelihood=True)
    mean, std = model.predict_with_std(new)
    path = tmp_path / "best.safetensors"
    save_weights(model, path)
    assert load_file(path)["train_tokens"].dtype == torch.uint8
    assert path.stat().st_size < 120 * (40 + 2 * 8) + 2000
    other = make_variants(30, 9, seed=5)
    fresh = solved(other.tokens, other.target)
    fresh.predict_with_std(other)  # what it derived from other data must not stay
    load_weights(fresh, path)
    assert torch.equal(fresh(new), mean)
    torch.testing.assert_close(fresh.predict_with_std(new), (mean, std), rtol=0, atol=0)
    assert fresh.hyperparameters == model.hyperparameters != model.given


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dual", lambda dual: dual[:-1], "its parts are of 29 and 30 training sequences"),
        ("train_tokens", lambda tokens: tokens + 22, "which stands for no residue"),
        ("train_tokens", lambda tokens: tokens[0], "train_tokens has the shape"),
        ("theta", lambda theta: theta[:3], "theta has the shape"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(name: str, change: Callable, message: str) -> None:
    train = make_variants(30, 9, seed=5)
    state = solved(train.tokens, train.target).trained_state()
    with pytest.raises(RuntimeError, match=message):
        make_kernel().load_trained_state(state | {name: change(state[name])})


def test_repeated_sequences_without_noise_still_give_finite_numbers() -> None:
    train = make_variants(20, 12, seed=1)
    tokens, target = train.tokens.repeat(2, 1), torch.randn(40, generator=torch.Generator().manual_seed(0))
    mean, std = solved(tokens, target, noise=1e-30, linear_variance=0.0).predict_with_std(train)
    assert mean.isfinite().all()
    assert std.isfinite().all()
    same = solved(torch.ones(4, 3, dtype=torch.int64), torch.full((4,), 1.5))
    assert same(make_batch(torch.ones(2, 3, dtype=torch.int64))).tolist() == [1.5, 1.5]
