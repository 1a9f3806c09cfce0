"""Zero-shot scores as features: standardised on the training rows, with a documented way for missing ones."""

from typing import Any

import torch
from torch import Tensor, nn

from datasets.common.errors import UserError


def keep_one_width(module: nn.Module, features: str, other: str) -> None:
    """Have `module` refuse weights, as it loads them, by a RuntimeError where its parts do not fit.

    Its tensor `other` has to be as wide as its `features`, a `ScoreFeatures`.
    """

    def check(module: nn.Module, _: Any) -> None:
        n, width = getattr(module, features).n_features, getattr(module, other).shape[-1]
        if n != width:
            raise RuntimeError(f"{other} is of {width} features of score columns, of which there are {n}")

    module.register_load_state_dict_post_hook(check)  # type: ignore[no-untyped-call]


class ScoreFeatures(nn.Module):
    """Score columns (B, K), NaN where one is missing, as features (B, K + M) float64 of mean 0 on the training rows.

    Each column has the standard deviation 1 on the training rows that have it; a missing value is their mean, 0. The M
    columns of which some training rows lack a value are followed by an indicator each: 1 where it is missing and 0
    elsewhere, less its mean on the training rows. Where training rows lack none, a missing value is 0 and no more.

    Attributes:
        mean, spread: (K,) float64, of the training rows.
        missing: (K,) float64, the share of training rows without a value.
    """

    _NAMES = ("mean", "spread", "missing")
    mean: Tensor
    spread: Tensor
    missing: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in self._NAMES:
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))

    @property
    def n_columns(self) -> int:
        """K; 0 where training had no scores."""
        return len(self.mean)

    @property
    def n_features(self) -> int:
        """K + M."""
        return self.n_columns + int(self._indicated.sum())

    @property
    def _indicated(self) -> Tensor:
        return (self.missing > 0) & (self.missing < 1)

    @torch.no_grad()
    def fit(self, scores: Tensor | None) -> None:
        """Look at the training rows' scores (N, K); None where there are none."""
        scores = self.mean.new_zeros(1, 0) if scores is None else scores.double()
        known = scores.isfinite()
        n_known = known.sum(dim=0).clamp(min=1)
        self.mean = scores.where(known, 0.0).sum(dim=0) / n_known
        spread = ((scores - self.mean).where(known, 0.0).square().sum(dim=0) / n_known).sqrt()
        self.spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        self.missing = 1 - known.double().mean(dim=0)

    def forward(self, scores: Tensor | None) -> Tensor | None:
        """Features (B, K + M) of scores (B, K); None where training had no scores.

        Raises:
            UserError: The scores have not as many columns as those of training.
        """
        if not self.n_columns:
            return None
        n_given = 0 if scores is None else scores.shape[1]
        if scores is None or n_given != self.n_columns:
            raise UserError(
                f"The model was trained with {self.n_columns} score column(s), here are {n_given}: give the same ones."
            )
        known = scores.isfinite()
        values = ((scores.double() - self.mean) / self.spread).where(known, 0.0)
        indicated = self._indicated
        return torch.cat([values, (~known).double()[:, indicated] - self.missing[indicated]], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        n_columns = {state_dict[prefix + name].numel() for name in self._NAMES if prefix + name in state_dict}
        if len(n_columns) == 1:
            for name in self._NAMES:
                setattr(self, name, getattr(self, name).new_zeros(n_columns.copy().pop()))
        super()._load_from_state_dict(state_dict, prefix, *args)
