"""What "of the wrong type" means: values against annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

import pytest

from datasets.common.errors import UserError
from models.bounds import Fraction, Interval, OddInt, PositiveFloat, PositiveInt
from search.config.type_checks import build, check_keys, convert, describe


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, -0.5, -0.5),
        (bool, True, True),
        (str, "", ""),
        (None, None, None),
        (int | None, None, None),
        (Optional[int], 3, 3),  # noqa: UP045
        (Union[int, str], "a", "a"),  # noqa: UP007
        (float | bool, True, True),
        (bool | float, 1, 1.0),
        (float | int, 1, 1),
        (Literal["mean", "attention"], "mean", "mean"),
        (Literal[1, None], None, None),
        (OddInt, 5, 5),
        (PositiveFloat, 1, 1.0),
        (PositiveInt | None, None, None),
        (Fraction, 0, 0.0),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (tuple[float, ...], [1, 2, 3], (1.0, 2.0, 3.0)),
        (tuple[int, ...], [], ()),
        (list[float], (1, 2), [1.0, 2.0]),
        (Sequence[PositiveInt], [1], [1]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Mapping[str, Any], {}, {}),
        (dict, {}, {}),
        (list[list[float | None]], [[1, None]], [[1.0, None]]),
        (Any, object, object),
        (bytes, "not understood, so let through", "not understood, so let through"),
    ],
)
def test_a_value_that_fits_is_converted(annotation: Any, value: Any, converted: Any) -> None:
    result = convert(annotation, value, "here")
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (int, "abc", "here=abc is not valid: expected int."),
        (int, 1.0, "here=1.0 is not valid: expected int."),
        (int, True, "here=true is not valid: expected int."),
        (int, None, "here=null is not valid: expected int."),
        (int, 10**30, "expected int."),
        (float, "1.0", "expected float."),
        (float, False, "here=false is not valid: expected float."),
        (float, float("nan"), "here=nan is not valid"),
        (float, float("inf"), "here=inf is not valid"),
        (float, 10**400, "expected float."),
        (PositiveInt, 10**400, "expected int >= 1 and <= 2147483647."),
        (PositiveInt, 2**31, "expected int >= 1 and <= 2147483647."),
        (bool, 1, "expected bool."),
        (str, 1, "expected str."),
        (None, 0, "expected null."),
        (int | None, "x", "expected int or null."),
        (Literal["mean", "attention"], "max", "expected one of 'mean', 'attention'."),
        (Literal[1], True, "expected one of 1."),
        (Literal[1], 1.0, "expected one of 1."),
        (OddInt, 4, "here=4 is not valid: expected int >= 1 and odd."),
        (OddInt, -1, "expected int >= 1 and odd."),
        (OddInt, "4", "expected int >= 1 and odd."),
        (Fraction, 1.0, "expected float >= 0 and < 1."),
        (Annotated[float, Interval(gt=0, le=2)], 3, "expected float > 0 and <= 2."),
        (tuple[int, int], [1], "expected a list of int, int."),
        (tuple[int, ...], [1, "a"], "expected a list of int."),
        (list[int], 1, "expected a list of int."),
        (list[int], "12", "expected a list of int."),
        (dict[str, Any], [], "expected a mapping."),
        (list[dict[str, Any]], [1], "expected a list of a mapping."),
        (Sequence[PositiveInt], [0], "expected a list of int >= 1."),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(annotation: Any, value: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        convert(annotation, value, "here")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("here=")


def test_a_huge_value_makes_no_huge_sentence() -> None:
    bomb: Any = "x" * 10
    for _ in range(40):
        bomb = [bomb, bomb]  # a trillion items, were they all written out
    for value in (bomb, "y" * 100_000, {"a": "z" * 100_000}, list(range(100_000))):
        with pytest.raises(UserError) as caught:
            convert(int, value, "here")
        assert len(str(caught.value)) < 400


def test_nested_descriptions() -> None:
    assert describe(list[PositiveInt | None]) == "a list of int >= 1 or null"


@dataclass(frozen=True, kw_only=True)
class Settings:
    n_layers: PositiveInt
    pooling: Literal["mean", "max"]


def test_a_dataclass_is_built_from_a_mapping() -> None:
    assert build(Settings, {"n_layers": 2, "pooling": "max"}, "model") == Settings(n_layers=2, pooling="max")


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"n_layer": 2, "pooling": "max"}, "model.n_layer is not a setting. Did you mean 'n_layers'?"),
        ({"n_layers": 2}, "model.pooling is missing: give it a value."),
        ({"n_layers": 0, "pooling": "max"}, "model.n_layers=0 is not valid: expected int >= 1."),
        ({3: 2}, "model.3 is not a setting. Known here: n_layers, pooling."),
        (None, "model=null is not valid: expected a mapping."),
        ([1], "model=[1] is not valid: expected a mapping."),
        ("abc", "model=abc is not valid: expected a mapping."),
    ],
)
def test_a_dataclass_refuses_what_does_not_fit(tree: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build(Settings, tree, "model")
    assert sentence in str(caught.value)


def test_keys_of_something_without_settings() -> None:
    check_keys({}, [], [], "pruner")
    with pytest.raises(UserError, match=r"^pruner\.x is not a setting\.$"):
        check_keys({"x": 1}, [], [], "pruner")
