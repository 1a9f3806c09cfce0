"""Losses against their definitions, parts of a batch against the whole, and predictions in the assay's unit."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from models.fitness_model import FitnessModel
from models.losses import Loss, make_loss, ranking
from models.ridge import Ridge
from models.target_scale import TargetScale, Transform
from tests.helpers.variants import make_cnn, make_variants

TASK = "synthetic_two_vs_rest"
SQUARED_ERROR = make_loss("mse", huber_delta=1.0)
HUBER = make_loss("huber", huber_delta=0.5)


def test_ranking_is_the_mean_over_all_pairs_of_different_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(9, generator=generator)
    target = torch.tensor([0.0, 1.0, 1.0, 2.0, -1.0, 0.0, 0.0, 5.0, 2.0])
    pairs = [np.log1p(np.exp(float(score[j] - score[i]))) for i in range(9) for j in range(9) if target[i] > target[j]]
    assert ranking(score, target).item() == pytest.approx(np.mean(pairs), rel=1e-6)


@pytest.mark.parametrize("target", [torch.tensor([3.0]), torch.tensor([2.0, 2.0, 2.0])], ids=["one row", "ties alone"])
def test_ranking_without_a_pair_moves_nothing(target: Tensor) -> None:
    score = torch.arange(len(target), dtype=torch.float32, requires_grad=True)
    loss = ranking(score, target)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(score.grad, torch.zeros(len(target)))


def test_ranking_stays_finite_for_scores_far_apart() -> None:
    score = torch.tensor([-1e6, 1e6], requires_grad=True)
    loss = ranking(score, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(2e6)
    assert torch.equal(score.grad, torch.tensor([-1.0, 1.0]))


def test_huber_is_half_the_square_and_then_a_line() -> None:
    errors = torch.tensor([0.1, 0.5, 4.0])
    expected = torch.tensor([0.005, 0.125, 0.5 * 4.0 - 0.125]).mean()
    assert HUBER(errors, torch.zeros(3)).item() == pytest.approx(expected.item())


def gradients(model: FitnessModel, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The gradient that one training step hands to the optimizer."""
    found: list[Tensor] = []

    class Optimizer:
        param_groups = (model,)

        def step(self) -> None:
            found.extend(torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters())

        def zero_grad(self) -> None:
            model.zero_grad()

    monkeypatch.setattr("models.whole_epochs.LightningOptimizer", Optimizer)
    monkeypatch.setattr(model, "optimizers", Optimizer, raising=False)
    monkeypatch.setattr(model, "manual_backward", Tensor.backward, raising=False)
    model.trainer = Steps()  # type: ignore[assignment]
    model.see_targets(batch.target)
    torch.manual_seed(5)
    model.training_step(batch, 0)
    return found


class Steps:
    """A trainer in the middle of an epoch."""

    is_last_batch = False
    lr_scheduler_configs: tuple[object, ...] = ()


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("loss", [SQUARED_ERROR, HUBER, ranking], ids=["mse", "huber", "ranking"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(
    loss: Loss, standardize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Equal lengths: parts keep the order of the rows.
    batch = make_variants(24, 20, seed=1)
    model = make_cnn()
    model.minimise(loss, "standardize" if standardize else "none")
    whole = gradients(model, batch, monkeypatch)
    model.micro_batch_tokens = 5 * 20
    assert len(batch.parts(5 * 20)) == 5
    in_parts = gradients(model, batch, monkeypatch)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole)
    for one, other in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


class OneLayer(FitnessModel):
    """Dropout's mask shows in the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(40))
        self.seen: list[Tensor] = []

    def forward(self, batch: Batch) -> Tensor:
        dropped = nn.functional.dropout(self.weight * batch.tokens, 0.5)
        self.seen.append(dropped.detach())
        return dropped.sum(1)

    def configure_optimizers(self) -> None:
        """None."""


def test_dropout_is_the_same_where_pairs_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OneLayer()
    model.minimise(ranking, "none")
    model.micro_batch_tokens = 4 * 40
    batch = make_variants(12, 40, seed=3)
    found = gradients(model, batch, monkeypatch)
    after = torch.rand(3)
    first, second = model.seen[:3], model.seen[3:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    # The gradient of the pairs of these very scores.
    inputs = torch.cat(first)
    masks = (inputs != 0) * 2.0
    weight = torch.ones(40, requires_grad=True)
    (expected,) = torch.autograd.grad(ranking((masks * weight * batch.tokens).sum(1), batch.target), weight)
    torch.testing.assert_close(found[0], expected)
    torch.manual_seed(5)
    for part in batch.parts(4 * 40):
        model(part)
    assert torch.equal(after, torch.rand(3)), "what comes next is as if nothing had been computed twice"


def test_a_scale_standardizes_and_undoes_it() -> None:
    target = torch.tensor([40.0, 50.0, 60.0, 70.0])
    scale = TargetScale()
    scale.fit(target)
    score = scale.standardized(target)
    assert score.mean().item() == pytest.approx(0, abs=1e-6)
    assert score.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(scale(score), target)
    scale.fit(torch.full((3,), 7.0))
    assert torch.equal(scale(torch.zeros(2)), torch.full((2,), 7.0))


def test_calibration_is_least_squares_and_never_turns_ranks_round() -> None:
    generator = torch.Generator().manual_seed(0)
    score = 30 * torch.randn(50, generator=generator)
    target = 5 + 0.1 * score + torch.randn(50, generator=generator)
    scale = TargetScale()
    scale.calibrate(score, target)
    slope, intercept = np.polyfit(score.numpy(), target.numpy(), 1)
    assert (scale.unit.item(), scale.offset.item()) == pytest.approx((slope, intercept), rel=1e-4)
    scale.calibrate(score, -target)
    assert scale.unit > 0
    scale.calibrate(torch.zeros(50), target)
    assert torch.allclose(scale(torch.zeros(1)), target.mean())


@pytest.mark.parametrize(
    ("loss", "transform"),
    [
        ("ranking", "none"),
        pytest.param("ranking", "rank_normal", marks=pytest.mark.slow),
        ("huber", "standardize"),
        ("mse", "standardize"),
        ("mse", "rank_normal"),
    ],
)
def test_predictions_and_logged_errors_are_in_the_unit_of_the_assay(
    loss: str, transform: Transform, get_split: Callable[[str], PreparedSplit], fit: Callable[..., Trainer]
) -> None:
    split = get_split(TASK)
    shifted = replace(split, target=(1000 + 50 * split.target).astype(np.float32))
    train_rows, validation_rows = np.flatnonzero(~split.validation), np.flatnonzero(split.validation)
    torch.manual_seed(0)
    model = make_cnn(lr_encoder=1e-2, lr_embedding=1e-2, lr_decoder=1e-2, weight_decay=0.0)
    model.minimise(make_loss(loss, huber_delta=1.0), transform)  # type: ignore[arg-type]
    model.see_targets(torch.as_tensor(shifted.target[train_rows]))
    metrics = fit(model, shifted, name=TASK, max_epochs=8).callback_metrics
    variance = float(np.var(shifted.target[validation_rows]))
    assert metrics["val_spearman"] > 0.3
    assert 0 < metrics["val_loss"] < variance
    assert 0 < metrics["training_loss"] < float(np.var(shifted.target[train_rows]))
    # A checkpoint carries the unit, and another model that reads it predicts the same.
    state = model.trained_state()
    is_of_ranks = transform == "rank_normal" and loss != "ranking"
    assert {"target_scale.knots"} if is_of_ranks else {"target_scale.offset", "target_scale.unit"} <= set(state)
    again = make_cnn()
    again.minimise(make_loss(loss, huber_delta=1.0), transform)  # type: ignore[arg-type]
    again.load_trained_state(state)
    batch = make_variants(8, 20, seed=1)
    model.eval(), again.eval()
    assert torch.equal(model(batch), again(batch))
    assert 900 < model(batch).mean() < 1200


def test_a_model_takes_mean_and_standard_deviation_of_the_targets_that_it_is_shown() -> None:
    model = make_cnn()
    model.minimise(SQUARED_ERROR, "standardize")
    target = torch.tensor([1.0, 2.0, 6.0])
    model.see_targets(target)
    assert isinstance(model.target_scale, TargetScale)
    assert model.target_scale.offset == 3
    assert model.target_scale.unit.item() == pytest.approx(float(np.std([1, 2, 6])))


def test_a_plain_model_has_no_scale_and_no_more_in_its_checkpoints() -> None:
    model = make_cnn()
    model.minimise(SQUARED_ERROR, "none")
    assert model.target_scale is None
    assert set(model.trained_state()) == set(make_cnn().trained_state())


@pytest.mark.parametrize("loss", ["huber", "ranking"])
def test_a_model_that_is_solved_exactly_refuses_what_it_would_not_minimise(loss: str) -> None:
    with pytest.raises(UserError, match=r"Ridge is solved in its own way.*use trainer.loss=mse with it"):
        Ridge(alpha=1.0).minimise(make_loss(loss, huber_delta=1.0), "standardize")  # type: ignore[arg-type]


def test_a_step_of_its_own_that_knows_nothing_of_transforms_refuses_them() -> None:
    class Own(OneLayer):
        def training_step(self, batch: Batch, batch_idx: int) -> None:
            """None."""

    with pytest.raises(UserError, match=r"use trainer.loss=mse and trainer.target_transform=none with it"):
        Own().minimise(SQUARED_ERROR, "rank_normal")
    Own().minimise(SQUARED_ERROR, "none")
