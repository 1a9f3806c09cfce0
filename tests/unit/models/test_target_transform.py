"""What a model learns of the targets is undone in its predictions, and changes no ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata, spearmanr
from torch.nn.functional import mse_loss

from models.closed_form import ClosedForm
from models.kernel import Kernel
from models.ridge import Ridge
from models.target_scale import RankNormal, TargetScale, Transform
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_variants
from tests.unit.models.test_kernel import make_kernel

VALUES = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=600)


def fitted(target: torch.Tensor) -> RankNormal:
    scale = RankNormal()
    scale.fit(target)
    return scale


def test_scores_are_normal_scores_of_ranks_with_ties_shared() -> None:
    target = torch.tensor([3.0, 1.0, 1.0, 50.0, -2.0])
    scale = fitted(target)
    expected = norm.ppf((rankdata(target) - 0.5) / 5)
    np.testing.assert_allclose(scale.standardized(target), expected, atol=1e-6)
    np.testing.assert_allclose(scale(torch.from_numpy(expected)), target, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(VALUES, st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=20))
def test_the_map_rises_and_its_inverse_undoes_it(values: list[float], scores: list[float]) -> None:
    target = torch.tensor(values)
    scale = fitted(target)
    assert scale.knots.shape[1] <= 257
    assert (scale.knots.diff(dim=1) > 0).all()
    score = torch.tensor(scores, dtype=torch.float64).sort().values
    assert (scale._pieces(score)[1] > 0).all()
    predicted = scale.exact(score)
    assert (predicted.diff() >= 0).all()
    back = scale.standardized(predicted)
    spread = float(scale.knots[1][-1] - scale.knots[1][0])
    again = scale.knots[1][scale._pieces(back)[0]] + scale._pieces(back)[1] * (
        back - scale.knots[0][scale._pieces(back)[0]]
    )
    torch.testing.assert_close(again, predicted, rtol=1e-9, atol=1e-9 * (1 + spread))
    if len(set(values)) <= 257:
        torch.testing.assert_close(scale(scale.standardized(target.double())), target, rtol=1e-4, atol=1e-4)


def test_constant_targets_are_predicted() -> None:
    assert fitted(torch.full((4,), 7.0))(torch.zeros(2)).tolist() == [7.0, 7.0]


def test_deviations_are_those_of_the_line_at_the_score() -> None:
    scale = fitted(torch.linspace(0, 1, 50).square())
    score, step = torch.linspace(-2.0, 2.0, 9) + 1e-3, 1e-4
    rise = (scale(score + step).double() - scale(score - step).double()) / (2 * step)
    torch.testing.assert_close(scale.deviation(score, torch.full((9,), 0.5)).double(), 0.5 * rise, rtol=0.05, atol=1e-3)
    plain = TargetScale()
    plain.fit(torch.tensor([1.0, 5.0]))
    assert plain.deviation(torch.zeros(1), torch.ones(1)).item() == 2


@pytest.mark.parametrize("transform", ["none", "standardize", "rank_normal"])
@pytest.mark.parametrize("family", [Ridge, Kernel])
def test_exact_models_learn_transformed_targets(family: type[ClosedForm], transform: Transform, tmp_path: Path) -> None:
    train, new = make_variants(80, 9, seed=1), make_variants(30, 9, seed=1)
    target = (train.target * 2).exp()

    def make() -> ClosedForm:
        model = make_kernel(similarity="blosum62") if family is Kernel else Ridge(alpha=2.0)
        model.minimise(mse_loss, transform)
        return model

    model = make()
    model.see_targets(target)
    scale = model.target_scale
    learnt = target.double() if scale is None else scale.standardized(target.double())
    with torch.no_grad():
        model.solve(train.tokens, learnt)
        inner = model.forward(new)
        predicted = model(new)
    if transform == "none":
        assert torch.equal(inner, predicted)
    else:
        assert spearmanr(inner, predicted)[0] == pytest.approx(1)
        assert predicted.mean() == pytest.approx(float(target.mean()), rel=1)
    known = model.predict_with_std(new)
    if known is not None:
        assert torch.equal(known[0], predicted)
        assert (known[1] >= 0).all()
    save_weights(model, tmp_path / "best.safetensors")
    fresh = make()
    load_weights(fresh, tmp_path / "best.safetensors")
    assert torch.equal(fresh(new), predicted)
