"""What a hyperparameter's annotation allows."""

import subprocess
import sys
from typing import Annotated, get_args

import pytest

from models.bounds import Fraction, Interval, NonNegativeFloat, OddInt, PositiveFloat, PositiveInt


@pytest.mark.parametrize(
    ("annotation", "value", "violation"),
    [
        (PositiveInt, 1, None),
        (PositiveInt, 0, "must be at least 1"),
        (OddInt, 5, None),
        (OddInt, 4, "must be odd"),
        (OddInt, -1, "must be at least 1"),
        (PositiveFloat, 1e-6, None),
        (PositiveFloat, 0.0, "must be greater than 0"),
        (PositiveFloat, float("nan"), "must be finite"),
        (PositiveFloat, float("inf"), "must be finite"),
        (NonNegativeFloat, 0.0, None),
        (NonNegativeFloat, -0.1, "must be at least 0"),
        (Fraction, 0.0, None),
        (Fraction, 0.999, None),
        (Fraction, 1.0, "must be less than 1"),
        (Annotated[int, Interval(le=3)], 4, "must be at most 3"),
    ],
)
def test_a_violation_says_what_is_expected(annotation: object, value: float, violation: str | None) -> None:
    assert get_args(annotation)[1].violation(value) == violation


def test_bounds_import_nothing_heavy() -> None:
    code = "import sys, models.bounds; print([m for m in ('torch', 'numpy', 'lightning') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
