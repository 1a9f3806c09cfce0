"""What a kernel believes of several sequences together, against its deviations and against what it is made of."""

from typing import Any

import pytest
import torch

from models.joint_covariance import joint_covariance
from models.kernel import Kernel
from models.layers.gaussian_process import centre_of
from models.ridge import Ridge
from tests.helpers.variants import make_variants

SETTINGS: dict[str, Any] = {
    "length_scale": 4.0,
    "variance": 0.8,
    "linear_variance": 0.05,
    "noise": 0.1,
    "marginal_likelihood": False,
    "max_train": None,
}
PARTS: dict[str, Any] = {"composition": True, "places": True}


@pytest.mark.parametrize(
    "changes",
    [{}, {"similarity": "blosum62"}, {"sites": "additive"}, {"sites": "both", "relevance": True}, PARTS],
    ids=str,
)
def test_its_diagonal_is_what_is_believed_of_each_alone_and_no_order_changes_it(changes: dict[str, Any]) -> None:
    train, new = make_variants(40, 9, seed=1), make_variants(25, 9, seed=2)
    model = Kernel(**SETTINGS | changes)
    model.solve(train.tokens, train.target.double())
    found = joint_covariance(model, new)
    assert found is not None
    _, std = model.predict_with_std(new)
    torch.testing.assert_close(found.diagonal().clamp(min=0).sqrt() * model.scale, std.double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-9)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-8
    # What the training sequences have among themselves is what prediction takes for it.
    side = model.training_side()
    distance = side.distances_among_themselves()
    own = model._own_covariances(distance)
    torch.testing.assert_close(side.among(train.tokens, centre_of(distance), model.theta), own, rtol=0, atol=1e-9)


def test_what_was_measured_exactly_leaves_no_covariance() -> None:
    train = make_variants(30, 9, seed=1)
    model = Kernel(**SETTINGS | {"noise": 1e-6})
    model.solve(train.tokens, train.target.double())
    found = joint_covariance(model, train)
    assert found is not None
    assert float(found.abs().max()) < 1e-4


def test_others_know_no_covariance() -> None:
    new = make_variants(5, 9, seed=2)
    assert joint_covariance(Ridge(alpha=1.0), new) is None
    scored = Kernel(**SETTINGS | {"score_mean": True})
    scored.take_scores()
    assert joint_covariance(scored, new) is None
