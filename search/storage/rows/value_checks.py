"""Checks of values that others wrote: a check is told a value and its name, and says what is wrong with it."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Any

from models.bounds import Interval
from search.config.type_checks import describe, fits, shown

Check = Callable[[str, Any], Iterator[str]]
"""Given the name of a value and the value, what is wrong with it: `n_target='x', expected int >= 1`."""


def is_a(annotation: Any) -> Check:
    """The value fits an annotation."""

    def check(where: str, value: Any) -> Iterator[str]:
        if not fits(annotation, value):
            yield f"{where} is {shown(value)}, expected {describe(annotation)}"

    return check


def whole_number(least: int) -> Check:
    """The value is a whole number from `least`."""
    annotation = Annotated[int, Interval(ge=least)]

    def check(where: str, value: Any) -> Iterator[str]:
        if type(value) is not int or not least <= value < 2**63:
            yield f"{where} is {shown(value)}, expected {describe(annotation)}"

    return check


def matches(pattern: str, expected: str) -> Check:
    """The value is a text that matches the whole pattern."""
    compiled = re.compile(pattern, re.DOTALL)

    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            yield f"{where} is {shown(value)}, expected {expected}"

    return check


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
        for key in checks.keys() & value.keys():
            yield from checks[key](f"{where}.{key}", value[key])

    return check


def or_null(check: Check) -> Check:
    """The value is null, or passes."""
    return lambda where, value: iter(()) if value is None else check(where, value)


def lines(where: str, value: Any) -> Iterator[str]:
    """A check: the value is a mapping of lines of text. Each trial has several, so most are told by a quick look."""
    if not isinstance(value, dict) or not all(map(_is_plain, chain(value, value.values()))):
        yield from _lines(where, value)


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and len(value) < 100 and value.isprintable()


line = matches(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,4096}", "a line of text without control characters")
"""A check: the value is one line of text, without anything that a terminal would obey."""
_lines = mapping(line)


ID = r"[0-9a-f]{32}"
