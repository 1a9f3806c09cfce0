"""Rows that count more or less in training, by the standard errors of their targets."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import PairwiseKernel
from sklearn.linear_model import Ridge as Reference
from torch import Tensor
from torch.nn import functional

from datasets.common.errors import UserError
from datasets.splits.row_weights import row_weights
from models.closed_form import ClosedForm
from models.fitness_model import FitnessModel
from models.kernel import Kernel
from models.layers.gaussian_process import Hyperparameters, centre_of, covariance, log_marginal_likelihood
from models.layers.relevance import _negative_log_posterior
from models.losses import make_loss, over_rows
from models.ridge import solve
from tests.helpers.variants import make_batch

DRAW = torch.Generator().manual_seed(0)
N_TOKENS = 6


def rows(n: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (n, length), targets (n,) and weights (n,)."""
    tokens = torch.randint(1, N_TOKENS, (n, length), generator=DRAW)
    target = torch.randn(n, generator=DRAW, dtype=torch.float64)
    weight = torch.rand(n, generator=DRAW, dtype=torch.float64) + 0.1
    return tokens, target, weight / weight.mean()


def test_weights_follow_from_errors_and_are_bounded() -> None:
    error = np.array([0.1, 0.2, 0.4, 1e-9, 5.0], dtype=np.float32)
    train = np.arange(4)
    weights = row_weights(error, train)
    assert weights[train].mean() == pytest.approx(1)
    median = np.median(error[train])
    assert weights[:3] / weights[0] == pytest.approx(
        (error[0] ** 2 + median**2) / (error[:3] ** 2 + median**2), rel=1e-5
    )
    of_median = 1 / (2 * median**2) * weights[0] * (error[0] ** 2 + median**2)
    assert weights[3] == pytest.approx(2 * of_median, rel=1e-5)


@pytest.mark.parametrize(("n", "length"), [(60, 4), (12, 9)])  # as normal equations, and as their dual
@pytest.mark.parametrize("n_features", [0, 3])
def test_ridge_is_that_of_scikit_learn(n: int, length: int, n_features: int) -> None:
    tokens, target, weight = rows(n, length)
    features = torch.randn(n, n_features, generator=DRAW, dtype=torch.float64)
    features -= features.mean(dim=0)
    own, intercept, of_features = solve(tokens, target, 0.3, N_TOKENS, features, weight)
    one_hot = torch.cat([functional.one_hot(tokens, N_TOKENS).flatten(1).double(), features], dim=1)
    reference = Reference(alpha=0.3).fit(one_hot.numpy(), target.numpy(), sample_weight=weight.numpy())
    positions = torch.arange(length)
    found = own[positions, tokens].sum(dim=1) + intercept + features @ of_features
    assert found.numpy() == pytest.approx(reference.predict(one_hot.numpy()), abs=1e-8)


def test_weights_of_one_are_no_weights() -> None:
    tokens, target, _ = rows(40, 5)
    plain = solve(tokens, target, 0.3, N_TOKENS)
    same = solve(tokens, target, 0.3, N_TOKENS, None, torch.ones(40, dtype=torch.float64))
    for one, other in zip(plain, same, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-9)


def gaussian_process(tokens: Tensor, target: Tensor, weight: Tensor, theta: Hyperparameters) -> Any:
    """scikit-learn's, with the noise of each row on the diagonal."""
    one_hot = functional.one_hot(tokens, N_TOKENS).flatten(1).double().numpy()
    kernel = theta.variance * PairwiseKernel(metric="rbf", gamma=0.5 / theta.length_scale)
    alpha = (theta.noise / weight).numpy()
    return GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(one_hot, target.numpy()), one_hot


def test_the_marginal_likelihood_is_that_of_scikit_learn_and_its_derivatives_are_its_own() -> None:
    tokens, target, weight = rows(30, 6)
    theta = Hyperparameters(length_scale=2.0, variance=0.8, linear_variance=0.0, noise=0.3)
    values = torch.tensor(list(vars(theta).values()), dtype=torch.float64)
    distance = (tokens[:, None] != tokens).sum(dim=2).double()
    centre = centre_of(distance)
    found, gradient = log_marginal_likelihood(distance, centre, target, values, weight)
    reference, _ = gaussian_process(tokens, target, weight, theta)
    assert found == pytest.approx(reference.log_marginal_likelihood_value_)
    for place in (0, 1, 3):
        near = [values.clone(), values.clone()]
        near[0][place] -= 1e-5
        near[1][place] += 1e-5
        low, high = (log_marginal_likelihood(distance, centre, target, one, weight)[0] for one in near)
        assert gradient[place] == pytest.approx((high - low) / 2e-5, rel=1e-4)
    posterior = _negative_log_posterior(lambda at, _: covariance(distance, centre, at), target, values, None, weight)
    assert posterior is not None
    constant = 0.5 * len(target) * float(np.log(2 * np.pi))
    assert -float(posterior) - constant == pytest.approx(found, abs=1e-5)  # but for its jitter


@pytest.mark.parametrize("inducing", [None, 30])
def test_the_kernel_predicts_as_scikit_learn_does(inducing: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    theta = Hyperparameters(length_scale=2.0, variance=0.8, linear_variance=0.0, noise=0.3)
    tokens, target, weight = rows(30, 6)
    target = (target - target.mean()) / target.std(correction=0)
    model = Kernel(**vars(theta), marginal_likelihood=False, max_train=None)
    model.take_weights()
    if inducing is not None:  # as many as there are rows: the approximation is exact
        model.n_inducing = inducing
        monkeypatch.setattr(type(model), "_is_induced", lambda self, n_train: True)
    model.solve(tokens, target, weight=weight)
    reference, one_hot = gaussian_process(tokens, target, weight, theta)
    mean, std = reference.predict(one_hot, return_std=True)
    found, spread = model.predict_with_std(make_batch(tokens))
    assert found.numpy() == pytest.approx(mean, abs=1e-5)
    assert spread.numpy() == pytest.approx(std, abs=1e-5)


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_a_loss_counts_each_row_by_its_weight(name: Any) -> None:
    _, target, weight = rows(20, 2)
    score = torch.randn(20, generator=DRAW, dtype=torch.float64)
    loss = make_loss(name, huber_delta=0.5)
    by_row = torch.stack([loss(score[i : i + 1], target[i : i + 1]) for i in range(20)])
    assert float(over_rows(loss, score, target, weight)) == pytest.approx(float((by_row * weight).mean()))
    assert over_rows(loss, score, target, None) == loss(score, target)


class OwnStep(FitnessModel):
    """A user's model, which trains in its own way."""

    def forward(self, batch: Any) -> Tensor:
        return batch.target

    def configure_optimizers(self) -> list[Any]:
        return []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        return None


class OwnSolution(ClosedForm):
    """A user's model, solved without weights."""

    def forward(self, batch: Any) -> Tensor:
        return batch.target

    def solve(self, tokens: Tensor, target: Tensor) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("model", [OwnStep, OwnSolution])
def test_a_model_that_knows_of_no_weights_is_refused(model: type[FitnessModel]) -> None:
    with pytest.raises(UserError, match="all rows count alike: leave --error-column out"):
        model().take_weights()
