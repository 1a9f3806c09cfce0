"""Kernel models of more rows than can be solved for exactly."""

from torch import Tensor

from datasets.common.errors import TooManyRows
from models.bounds import MAX_INDUCED_ROWS, MAX_KERNEL_ROWS
from models.closed_form import ClosedForm


class ManyRows(ClosedForm):
    """Solved exactly up to 16,384 training rows; of more it is an approximation, the subset of regressors.

    That is a combination of the covariances with `n_inducing` random ones of them, fitted to all. A standard deviation
    is then the larger one that these alone would leave.
    """

    n_inducing: int

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
