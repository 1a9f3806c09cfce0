"""Regression trees as arrays: taken from scikit-learn's, kept without pickles, evaluated here."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_MAX_PATHS = 2**20  # of a row through a tree, followed at once


class Trees(nn.Module):
    """The sum of T regression trees, whose M nodes stand tree after tree, each branch right before its left child.

    Attributes:
        roots: (T,) int64, the first node of each tree.
        feature: (M,) int16, what a branch looks at; -1 in a leaf.
        number: (M,) float32, the threshold of a branch, whose left child takes the rows up to it; the value of a leaf.
        right: (M,) int32, the right child of a branch; 0 in a leaf.
        offset: () float64, added to the sum.
    """

    _NAMES = ("roots", "feature", "number", "right")
    roots: Tensor
    feature: Tensor
    number: Tensor
    right: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("roots", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(0, dtype=torch.int16))
        self.register_buffer("number", torch.zeros(0))
        self.register_buffer("right", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Sums (B,) float64 of the leaves that rows of features (B, F) float32 end in."""
        step = max(1, _MAX_PATHS // max(1, len(self.roots)))
        return torch.cat([self._sums(rows) for rows in torch.split(features, step)])

    def _sums(self, rows: Tensor) -> Tensor:
        place = self.roots.expand(len(rows), -1)  # (B, T), the node of each row in each tree
        while True:
            feature = self.feature[place].long()
            is_leaf = feature < 0
            if bool(is_leaf.all()):
                return self.number[place].double().sum(dim=1) + self.offset
            goes_left = rows.gather(1, feature.clamp(min=0)) <= self.number[place]
            place = torch.where(is_leaf, place, torch.where(goes_left, place + 1, self.right[place].long()))

    def take_forest(self, forest: Any) -> None:
        """Hold the mean of the trees of a fitted `RandomForestRegressor` or `ExtraTreesRegressor`."""
        n = len(forest.estimators_)
        parts = (
            (tree.children_left, tree.children_right, tree.feature, tree.threshold, tree.value[:, 0, 0] / n)
            for tree in (estimator.tree_ for estimator in forest.estimators_)
        )
        self._take(parts, offset=0.0)

    def take_boosting(self, boosting: Any) -> None:
        """Hold the sum of the trees of a fitted `HistGradientBoostingRegressor`."""
        nodes = [stage[0].nodes for stage in boosting._predictors]
        parts = (
            (
                np.where(tree["is_leaf"], -1, tree["left"].astype(np.int64)),
                tree["right"].astype(np.int64),
                tree["feature_idx"],
                tree["num_threshold"],
                tree["value"],
            )
            for tree in nodes
        )
        self._take(parts, offset=float(np.ravel(boosting._baseline_prediction)[0]))

    def _take(self, parts: Iterable[tuple[NDArray[Any], ...]], *, offset: float) -> None:
        """`parts`: of each tree the left and right children (-1 in a leaf), features, thresholds and values."""
        roots, features, numbers, rights = [], [], [], []
        n = 0
        for left, right, feature, threshold, value in parts:
            is_leaf = left < 0
            if not np.array_equal(left[~is_leaf], np.flatnonzero(~is_leaf) + 1):
                raise RuntimeError("this version of scikit-learn orders the nodes of its trees in another way")
            roots.append(n)
            features.append(np.where(is_leaf, -1, feature).astype(np.int16))
            numbers.append(np.where(is_leaf, value.astype(np.float32), _not_above(threshold)))
            rights.append(np.where(is_leaf, 0, right + n).astype(np.int32))
            n += len(left)
        device = self.number.device
        self.roots = torch.tensor(roots, dtype=torch.int64, device=device)
        self.feature = torch.from_numpy(np.concatenate(features)).to(device)
        self.number = torch.from_numpy(np.concatenate(numbers)).to(device)
        self.right = torch.from_numpy(np.concatenate(rights)).to(device)
        self.offset = torch.tensor(offset, dtype=torch.float64, device=device)

    def check(self, n_features: int) -> None:
        """Refuse nodes that lead nowhere, or back.

        Raises:
            RuntimeError: The message says what is wrong.
        """
        n = len(self.number)
        if len(self.feature) != n or len(self.right) != n:
            raise RuntimeError("its trees have parts of different lengths")
        if n == 0:
            if len(self.roots):
                raise RuntimeError("its trees have roots that there are not")
            return
        branches = self.feature >= 0
        here = torch.arange(n, device=self.right.device)[branches]
        right = self.right[branches].long()
        if int(self.feature.max()) >= n_features or int(self.feature.min()) < -1:
            raise RuntimeError("its trees look at features that there are not")
        if not bool(((right > here) & (right < n)).all()) or bool(branches[-1]):
            raise RuntimeError("its trees have nodes that lead nowhere")
        if int(self.roots.min()) < 0 or int(self.roots.max()) >= n:
            raise RuntimeError("its trees have roots that there are not")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name in self._NAMES:
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.dim() == 1:
                setattr(self, name, getattr(self, name).new_zeros(len(saved)))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _not_above(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 up to each threshold: no float32 lies between the two, so rows go the same way."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)
