"""Kernel models of more rows than can be solved for exactly."""

from collections.abc import Iterable

import torch
from torch import Tensor

from datasets.common.errors import TooManyRows
from models.bounds import MAX_INDUCED_ROWS, MAX_KERNEL_ROWS
from models.closed_form import ClosedForm
from models.layers.gaussian_process import factor, inducing_dual


class ManyRows(ClosedForm):
    """Solved exactly up to 16,384 training rows; of more it is an approximation, the subset of regressors.

    That is a combination of the covariances with `n_inducing` random ones of them, fitted to all. A standard deviation
    is then the larger one that these alone would leave.
    """

    n_inducing: int
    train_weight: Tensor
    has_weights = False

    def take_weights(self) -> None:
        """As for other models: the noise of a row is that of the model, divided by its weight."""
        super().take_weights()
        self.has_weights = True
        self.data_shapes = {**self.data_shapes, "train_weight": (None,)}
        self.register_buffer("train_weight", torch.zeros(0, dtype=torch.float64))  # (N,)

    @property
    def known_weight(self) -> Tensor | None:
        """The weights (N,) of the rows that were kept, None where all count alike."""
        return self.train_weight if self.has_weights else None

    def keep_weights(self, weight: Tensor | None, n_kept: int) -> None:
        """Keep the weights of the first rows, which standard deviations need."""
        if weight is not None:
            self.train_weight = weight[:n_kept]

    @staticmethod
    def dual_of(
        own: Tensor,
        slices: Iterable[tuple[slice, Tensor]],
        target: Tensor,
        weight: Tensor | None,
        theta: Tensor,
    ) -> Tensor:
        """Coefficients (N,) of all rows, exactly, or (M,) of the inducing ones.

        Args:
            own: (N, N) covariances of all rows, or (M, M) of the inducing ones, which are changed.
            slices: some rows, and their covariances (B, M) with the inducing ones, where there are such.
            target: (N,) float64, standardised.
            weight: (N,), by which the noise of a row is divided; None: it is the same of all.
            theta: (4,) the hyperparameters.
        """
        if len(own) == len(target):
            return torch.cholesky_solve(target[:, None], factor(own, theta, weight)).squeeze(1)
        known = ((rows, covariances, None if weight is None else weight[rows]) for rows, covariances in slices)
        return inducing_dual(own, ((found, target[rows], one) for rows, found, one in known), theta)

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """That of a Cholesky decomposition."""
        n_kept = self.n_inducing if self._is_induced(n_rows) else min(n_rows, self.max_rows or n_rows)
        return n_kept**3 // 6

    def check_size(self, n_train: int) -> None:
        """Refuse more training rows than inducing ones can stand for, unless a part is asked for."""
        if self.max_rows is None and n_train > MAX_INDUCED_ROWS:
            raise TooManyRows(
                f"The kernel model takes at most {MAX_INDUCED_ROWS:,} training sequences, here are {n_train:,}: set "
                f"model.max_train={MAX_KERNEL_ROWS // 2} to train on that many random ones, or choose another model."
            )

    def approximation(self, n_train: int) -> str | None:
        """As for other models: inducing sequences."""
        if not self._is_induced(n_train):
            return None
        return (
            f"Of {n_train:,} training sequences the kernel model is an approximation (subset of regressors): "
            f"{self.n_inducing:,} random ones stand for all (model.inducing); it is exact up to {MAX_KERNEL_ROWS:,}."
        )

    def _is_induced(self, n_train: int) -> bool:
        return self.max_rows is None and n_train > MAX_KERNEL_ROWS

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """As for other models; its parts have to be of the same training sequences."""
        super().load_trained_state(state)
        n_rows = {len(getattr(self, name)) for name in self.data_shapes if name != "relevance"}
        if len(n_rows) > 1:
            raise RuntimeError(f"its parts are of {' and '.join(map(str, sorted(n_rows)))} training sequences")
        if self.has_weights and not bool((self.train_weight > 0).all()):
            raise RuntimeError("train_weight holds a weight that is not above 0")
