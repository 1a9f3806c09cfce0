"""Hyperparameters and the relevance of each position, by marginal likelihood with derivatives from autograd.

A position's relevance is exp(z), and z has a normal prior around 0, so that few data leave all positions as they are.
"""

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from models.layers.gaussian_process import BOUNDS, Hyperparameters
from models.layers.relevance_prior import RELEVANCE_STD

Build = Callable[[Tensor, Tensor | None], Tensor]
"""Covariances (N, N) without noise, from the hyperparameters (4,) and the relevance (V,) of each varying position."""
_LARGEST = 6.0  # the logarithm of a relevance
_MOST_STEPS = 40
_JITTER = 1e-8
_FAILED = 1e10


def maximise_posterior(
    build: Build,
    target: Tensor,
    start: Hyperparameters,
    *,
    n_sites: int,
    seeks_hyperparameters: bool,
    weight: Tensor | None = None,
) -> tuple[Hyperparameters, Tensor]:
    """Hyperparameters and relevances (V,) of a local maximum, with L-BFGS on their logarithms, in 40 steps at most.

    Args:
        build: the covariances.
        target: (N,) float64, standardised.
        start: hyperparameters to begin with; one of 0 stays 0.
        n_sites: V; 0 seeks none, and `build` is given None.
        seeks_hyperparameters: False keeps those of `start`.
        weight: (N,) by which the noise of each row is divided; None: it is the same of all.
    """
    given = np.array(astuple(start))
    is_free = (given > 0) & seeks_hyperparameters
    low, high = np.log(np.array(BOUNDS)[is_free]).reshape(-1, 2).T
    n_free = int(is_free.sum())
    free = torch.from_numpy(np.flatnonzero(is_free)).to(target.device)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logs = torch.from_numpy(values.copy()).to(target.device).requires_grad_()
        with torch.enable_grad():
            theta = target.new_tensor(given).index_put((free,), logs[:n_free].exp())
            value = _negative_log_posterior(build, target, theta, logs[n_free:] if n_sites else None, weight)
            if value is None:
                return _FAILED, np.zeros_like(values)
            (gradient,) = torch.autograd.grad(value, logs)
        return float(value.detach()), gradient.cpu().numpy()

    found = minimize(
        loss,
        np.concatenate([np.log(given[is_free]).clip(low, high), np.zeros(n_sites)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[*zip(low, high, strict=True), *[(-_LARGEST, _LARGEST)] * n_sites],
        options={"maxiter": _MOST_STEPS},
    ).x
    values = given.copy()
    values[is_free] = np.exp(found[:n_free])
    relevances = torch.from_numpy(np.exp(found[n_free:])).to(target.device)
    return Hyperparameters(**dict(zip(vars(start), values.tolist(), strict=True))), relevances


def _negative_log_posterior(
    build: Build, target: Tensor, theta: Tensor, logs: Tensor | None, weight: Tensor | None
) -> Tensor | None:
    """In nats, up to a constant; None where rounding makes the covariances indefinite."""
    matrix = build(theta, None if logs is None else logs.exp())
    added = theta[3] + _JITTER * matrix.diagonal().mean()
    matrix = matrix + added * torch.eye(len(target), dtype=target.dtype, device=target.device)
    if weight is not None:  # the noise that the line above added is that of a weight of 1
        matrix = matrix + torch.diag(theta[3] * (1 / weight - 1))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        return None
    dual = torch.cholesky_solve(target[:, None], factor).squeeze(1)
    value: Tensor = 0.5 * target @ dual + factor.diagonal().log().sum()
    return value if logs is None else value + 0.5 * (logs / RELEVANCE_STD).square().sum()
