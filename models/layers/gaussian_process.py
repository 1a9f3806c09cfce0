"""Gaussian-process regression from Hamming distances: covariances, the exact solution and the marginal likelihood.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1 and chapter 5.
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from datasets.common.errors import UserError

# Where marginal likelihood looks, in the units of `Hyperparameters`.
BOUNDS = ((0.1, 1e3), (1e-4, 1e4), (1e-6, 1e2), (1e-6, 1e2))
_MAX_JITTER = 1e-2


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """`length_scale` is a number of substitutions; the variances are in units of the variance of the targets."""

    length_scale: float
    variance: float
    linear_variance: float
    noise: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Centre:
    """Where the linear part is zero: the mean of the N training sequences' one-hot forms.

    mean_distance: (N,) of each to all. overall: () of all to all.
    """

    mean_distance: Tensor
    overall: Tensor


def centre_of(distance: Tensor) -> Centre:
    """The centre of sequences with distances (N, N)."""
    mean_distance = distance.mean(dim=1)
    return Centre(mean_distance=mean_distance, overall=mean_distance.mean())


def covariance(distance: Tensor, centre: Centre, theta: Tensor, exponent: Tensor | None = None) -> Tensor:
    """Covariances (B, N) of the fitness of B sequences with that of the N training sequences.

    variance * exp(-distance / length_scale) is an RBF kernel on one-hot sequences, whose squared Euclidean distance
    is twice the Hamming distance. linear_variance is the variance of each of the weights of a linear function of the
    one-hot form less its mean over the training sequences; its covariance follows from distances alone.

    Args:
        distance: (B, N) Hamming distances, or others that are half the squared distances of vectors.
        centre: that of the training sequences.
        theta: (4,) the hyperparameters in their order.
        exponent: (B, N), what stands in the place of distance / length_scale, if anything does.
    """
    length_scale, variance, linear_variance, _ = theta.tolist()
    # In place: fresh memory for a matrix of this size costs more than the arithmetic on it.
    covariances: Tensor = (distance / -length_scale if exponent is None else -exponent).exp_().mul_(variance)
    if linear_variance:
        covariances.sub_(distance, alpha=linear_variance)
        covariances.add_(distance.mean(dim=1, keepdim=True), alpha=linear_variance)
        covariances.add_(centre.mean_distance - centre.overall, alpha=linear_variance)
    return covariances


def prior_variance(distance: Tensor, centre: Centre, theta: Tensor) -> Tensor:
    """Variance (B,) of the fitness of B sequences before anything is measured, given their distances (B, N)."""
    _, variance, linear_variance, _ = theta
    before: Tensor = variance + linear_variance * (2 * distance.mean(dim=1) - centre.overall)
    return before


def factor_of(distance: Tensor, centre: Centre, theta: Tensor, weight: Tensor | None = None) -> Tensor:
    """The Cholesky factor (N, N) of the covariance of N noisy measurements, from their distances (N, N)."""
    return factor(covariance(distance, centre, theta), theta, weight)


def factor(matrix: Tensor, theta: Tensor, weight: Tensor | None = None) -> Tensor:
    """The Cholesky factor (N, N) of covariances (N, N) to which the noise of measurements is added, in place.

    The noise of a row is divided by its weight (N,); None: it is the same of all.
    Where rounding makes the matrix indefinite, the least power of ten from 1e-10 on that mends it is added to the
    diagonal, in units of its mean.

    Raises:
        UserError: None up to 1e-2 does.
    """
    matrix.diagonal().add_(theta[3] if weight is None else theta[3] / weight)
    scale = float(matrix.diagonal().mean())
    jitter = 0.0
    found: Tensor
    while True:
        found, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            return found
        more = 10 * jitter or 1e-10
        if not more <= _MAX_JITTER:
            raise UserError(
                f"The covariance matrix of the kernel model cannot be factored with {_shown(theta)}: raise model.noise."
            )
        matrix.diagonal().add_((more - jitter) * scale)
        jitter = more


def inducing_dual(own: Tensor, slices: Iterable[tuple[Tensor, Tensor, Tensor | None]], theta: Tensor) -> Tensor:
    """Coefficients (M,) of M inducing sequences under which the process is that of all N measurements, approximately.

    The subset of regressors (Rasmussen and Williams, section 8.3.1): functions are combinations of the covariances with
    the inducing sequences alone.

    Args:
        own: (M, M) covariances of the inducing sequences, which are changed.
        slices: of the N measurements, covariances with the inducing sequences (B, M), targets (B,) and weights (B,).
        theta: (4,) the hyperparameters, of which the noise is used.
    """
    noise = theta[3]
    base = factor(own, torch.zeros_like(theta))
    whitened = noise * torch.eye(len(own), dtype=own.dtype, device=own.device)
    right = own.new_zeros(len(own))
    for covariances, target, weight in slices:
        part = torch.linalg.solve_triangular(base, covariances.T, upper=False)  # (M, B)
        weighted = part if weight is None else part * weight
        whitened.addmm_(weighted, part.T)
        right += weighted @ target
    coefficients = torch.cholesky_solve(right[:, None], torch.linalg.cholesky(whitened))
    dual: Tensor = torch.linalg.solve_triangular(base.T, coefficients, upper=True).squeeze(1)
    return dual


def log_marginal_likelihood(
    distance: Tensor, centre: Centre, target: Tensor, theta: Tensor, weight: Tensor | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Of standardised targets (N,), in nats, and its derivatives (4,) with respect to theta."""
    lower = factor_of(distance, centre, theta, weight)
    dual = torch.cholesky_solve(target[:, None], lower)
    value = -0.5 * target @ dual.squeeze(1) - lower.diagonal().log().sum() - 0.5 * len(target) * math.log(2 * math.pi)
    by_matrix = (dual @ dual.T).sub_(torch.cholesky_inverse(lower)).mul_(0.5)
    length_scale, variance, _, _ = theta.tolist()
    by_rbf = (distance / -length_scale).exp_().mul_(by_matrix)
    centred = centre.mean_distance[:, None] + centre.mean_distance - centre.overall - distance
    gradient = (
        variance * float((by_rbf * distance).sum()) / length_scale**2,
        float(by_rbf.sum()),
        float((by_matrix * centred).sum()),
        float(by_matrix.trace() if weight is None else (by_matrix.diagonal() / weight).sum()),
    )
    return float(value), np.array(gradient)


def maximise_marginal_likelihood(
    distance: Tensor, target: Tensor, start: Hyperparameters, weight: Tensor | None = None
) -> Hyperparameters:
    """The hyperparameters of a local maximum that can be reached from `start`, found with L-BFGS on their logarithms.

    A linear variance of 0 stays 0.

    Args:
        distance: (N, N) Hamming distances.
        target: (N,) float64, standardised.
        start: where to begin.
        weight: (N,) by which the noise of each row is divided; None: it is the same of all.
    """
    centre = centre_of(distance)
    given = np.array(astuple(start))
    is_free = given > 0
    low, high = np.array(BOUNDS)[is_free].T

    def values_at(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        values = given.copy()
        values[is_free] = np.exp(logs)
        return values

    def loss(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = values_at(logs)
        likelihood, gradient = log_marginal_likelihood(distance, centre, target, distance.new_tensor(values), weight)
        return -likelihood, -(gradient * values)[is_free]

    found = minimize(
        loss,
        np.log(given[is_free].clip(low, high)),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(np.log(low), np.log(high), strict=True)),
    )
    return Hyperparameters(**dict(zip(vars(start), values_at(found.x).tolist(), strict=True)))


def _shown(theta: Tensor) -> str:
    names = ("length_scale", "variance", "linear_variance", "noise")
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, theta.tolist(), strict=True))
