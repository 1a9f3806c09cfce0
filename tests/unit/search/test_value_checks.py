"""Checks of values that others wrote: the quick look that most values pass says what a thorough one says."""

import math
from typing import Annotated, Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from models.bounds import Interval
from search.config.type_checks import fits
from search.storage.rows.checks import is_parameter
from search.storage.rows.value_checks import is_a, line, lines, mapping, real_number

NUMBERS = [
    0.0,
    -0.0,
    0.5,
    1.0,
    -1.0,
    1.5,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    0,
    1,
    -1,
    2,
    2**63,
    10**400,
    -(10**400),
]
OTHERS = [True, False, None, "", "1", [], [1.0], {}]


@pytest.mark.parametrize(("least", "most"), [(0, None), (-1, 1), (-1.0, 1.0)])
@pytest.mark.parametrize("value", [*NUMBERS, *OTHERS], ids=repr)
def test_a_real_number_is_what_its_annotation_says(least: float, most: float | None, value: Any) -> None:
    said = list(real_number(least, most)("x", value))
    assert said == list(is_a(Annotated[float, Interval(ge=least, le=most)])("x", value))
    assert not said or (len(said) == 1 and said[0].startswith("x is ")), said


@pytest.mark.parametrize(
    "value",
    [
        *({"a": "b", "c": ""}, {}, {"a": "x" * 4096}, {"a": "x" * 4000, "b": "x" * 4000}, {"a": "x" * 4097}),
        *({"a": "b\n"}, {"a\x1b": "b"}, {"a": "\x85"}, {"a": "\u2028"}, {"a": "\u200b"}, {"a": "\xa0"}, {"a": "ü"}),
        *({"a": 1}, {"a": None}, {"a": ["b"]}, {1: "a"}, [], ["a"], "text", None, 1, True),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_lines_are_a_mapping_of_which_each_is_a_line(value: Any) -> None:
    assert list(lines("x", value)) == list(mapping(line)("x", value))


@pytest.mark.parametrize(
    "distribution",
    [FloatDistribution(0, 1), IntDistribution(0, 1), CategoricalDistribution(["a", 1.5]), None],
    ids=repr,
)
@pytest.mark.parametrize("value", [*NUMBERS, *OTHERS], ids=repr)
def test_a_parameter_is_a_finite_number_or_a_choice(distribution: Any, value: Any) -> None:
    is_number = isinstance(distribution, FloatDistribution | IntDistribution)
    expected = fits(int | float, value) if is_number else fits(bool | int | float | str | None, value)
    assert is_parameter(distribution, value) == expected
