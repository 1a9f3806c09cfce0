"""Spearman's correlation, where torchmetrics' own answers with a number that means nothing."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from models.metrics import Spearman, spearman


def test_batches_add_up_to_scipys_answer_in_float64() -> None:
    prediction, target = torch.randn(700).round(decimals=1), torch.randn(700)
    target += prediction
    metric = Spearman()
    for part in range(0, 700, 256):
        metric.update(prediction[part : part + 256], target[part : part + 256])
    value = metric.compute()
    assert value.dtype == torch.float64
    assert value.item() == spearmanr(prediction.double().numpy(), target.double().numpy()).statistic


def test_reset_forgets() -> None:
    metric = Spearman()
    metric.update(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    assert metric.compute() == pytest.approx(-1)
    metric.reset()
    metric.update(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert metric.compute() == pytest.approx(1)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        (torch.tensor([1.0, math.nan, 3.0]), torch.arange(3.0)),
        (torch.tensor([1.0, math.inf, 3.0]), torch.arange(3.0)),
        (torch.ones(3), torch.arange(3.0)),
        (torch.arange(3.0), torch.ones(3)),
        (torch.ones(1), torch.ones(1)),
        (torch.ones(0), torch.ones(0)),
    ],
    ids=["nan", "inf", "constant prediction", "constant target", "one row", "no row"],
)
def test_nan_where_a_correlation_means_nothing(prediction: Tensor, target: Tensor) -> None:
    assert math.isnan(spearman(prediction, target))


def test_one_nan_among_500_is_not_overlooked() -> None:
    prediction = torch.arange(500.0)
    metric = Spearman()
    metric.update(prediction, prediction)
    metric.update(torch.tensor([math.nan]), torch.tensor([0.0]))
    assert metric.compute().isnan()


def test_half_precision_predictions_are_ranked_as_they_are() -> None:
    prediction = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.bfloat16)
    assert spearman(prediction, torch.tensor([1.0, 2.0, 4.0, 3.0])) == pytest.approx(0.8)
