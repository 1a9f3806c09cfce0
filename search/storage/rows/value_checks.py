"""Checks of values that others wrote: a check is told a value and its name, and says what is wrong with it."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Annotated, Any

from models.bounds import Interval
from search.config.nested import FUNCTIONS, other_functions
from search.config.type_checks import describe, fits, shown

Check = Callable[[str, Any], Iterable[str]]
"""Given the name of a value and the value, what is wrong with it: `n_target='x', expected int >= 1`.

A study of thousands of trials has a hundred thousand values, nearly all of them as they should be: a check of one value
is no generator, which takes longer than the check itself.
"""


def _unless(passes: Callable[[Any], bool], expected: str) -> Check:
    """The value passes, or it is said what was expected."""

    def check(where: str, value: Any) -> Iterable[str]:
        return () if passes(value) else (f"{where} is {shown(value)}, expected {expected}",)

    return check


def is_a(annotation: Any) -> Check:
    """The value fits an annotation."""
    return _unless(partial(fits, annotation), describe(annotation, math.inf))  # with the limit of large values


def real_number(least: float, most: float | None = None) -> Check:
    """The value is a finite number from `least`, and up to `most`."""
    annotation = Annotated[float, Interval(ge=least, le=most)]
    highest = sys.float_info.max if most is None else most

    def passes(value: Any) -> bool:
        return (type(value) is float and least <= value <= highest) or fits(annotation, value)

    return _unless(passes, describe(annotation))


def whole_number(least: int) -> Check:
    """The value is a whole number from `least`."""
    expected = describe(Annotated[int, Interval(ge=least)])
    return _unless(lambda value: type(value) is int and least <= value < 2**63, expected)


def matches(pattern: str, expected: str) -> Check:
    """The value is a text that matches the whole pattern."""
    compiled = re.compile(pattern, re.DOTALL)
    return _unless(lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None, expected)


def items(item: Check, expected: str = "a list") -> Check:
    """The value is a list, and each of its items passes."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where} is {shown(value)}, expected {expected}"
            return
        for i, each in enumerate(value):
            yield from item(f"{where}[{i}]", each)

    return check


def mapping(item: Check) -> Check:
    """The value is a mapping, and each of its values passes."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {shown(value)}, expected a mapping"
            return
        for key, each in value.items():
            yield from line(f"a key of {where}", key)
            yield from item(f"{where}.{key}", each)

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """The value is a mapping with these keys; others, say of a later version, are nobody's business."""
    checks = {**required, **(optional or {})}

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is {shown(value)}, expected a mapping"
            return
        missing = [key for key in required if key not in value]
        if missing:
            yield f"{where} lacks {', '.join(missing)}"
        for key, each in value.items():
            if key in checks:
                yield from checks[key](f"{where}.{key}", each)

    return check


def or_null(check: Check) -> Check:
    """The value is null, or passes."""
    return lambda where, value: () if value is None else check(where, value)


def lines(where: str, value: Any) -> Iterable[str]:
    """A check: the value is a mapping of lines of text. Each trial has several, so most are told by a quick look."""
    try:
        whole = "".join(chain(value, value.values()))
    except (TypeError, AttributeError):
        return _lines(where, value)
    return () if len(whole) <= _LONGEST_LINE and whole.isprintable() else _lines(where, value)


_LONGEST_LINE = 4096
line = matches(rf"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{{0,{_LONGEST_LINE}}}", "a line of text without control characters")
"""A check: the value is one line of text, without anything that a terminal would obey."""
_lines = mapping(line)


ID = r"[0-9a-f]{32}"


def config_tree(where: str, value: Any) -> Iterator[str]:
    """Settings by path; they may refer to each other, but look nothing up outside, such as variables of the machine."""
    yield from is_a(dict)(where, value)
    for name in other_functions(value):
        yield f"{where} calls {shown(name)}, expected no other functions than {', '.join(FUNCTIONS)}"


file_hash = matches(r"sha256:[0-9a-f]{64}|missing", "sha256: and 64 digits")
"""A check: the value is the hash of a file, or says that the file is missing."""

count = whole_number(0)
"""A check: the value is a number of things."""
