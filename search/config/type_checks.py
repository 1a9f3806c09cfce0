"""Check values against annotations: the one place that says what "of the wrong type" means.

Understands what hyperparameters are annotated with: int, float, bool, str, None, Literal, unions, tuples, lists,
mappings, `Annotated[..., Interval]` (`models.bounds`) and `Annotated[str, Text]`. What it does not understand it lets
through, since the constructor itself will judge it.
"""

import dataclasses
import math
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from datasets.common.errors import UserError, nearest
from models.bounds import Interval

T = TypeVar("T")
_UNIONS = (Union, types.UnionType)
_LARGEST_INT = 2**63 - 1  # of databases, and of a float without an overflow
_BRIEFLY = reprlib.Repr()  # a file may hold a value that fills the screen, or the memory
_BRIEFLY.maxstring = _BRIEFLY.maxother = 100
_BRIEFLY.maxlevel = 3


@dataclasses.dataclass(frozen=True)
class Text:
    """Text that a regular expression matches as a whole; `words` say what that is."""

    pattern: str
    words: str


def describe(annotation: Any, value: Any = None) -> str:
    """The annotation in words: `int >= 1`, `one of 'mean', 'attention'`; what is expected instead of `value`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        words = [extra.words for extra in args[1:] if isinstance(extra, Text)]
        if words:
            return " and ".join(words)
        bounds = " and ".join(_bounds(extra, value) for extra in args[1:] if isinstance(extra, Interval))
        return f"{describe(args[0])} {bounds}".strip()
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in args)
    if origin in _UNIONS:
        return " or ".join(describe(arg, value) for arg in args)
    if annotation is None or annotation is types.NoneType:
        return "null"
    if origin in (list, tuple, Sequence):
        items = [describe(arg) for arg in args if arg is not Ellipsis]
        return f"a list of {', '.join(items)}"
    if annotation in (dict, Mapping) or origin in (dict, Mapping):
        return "a mapping"
    return annotation.__name__ if isinstance(annotation, type) and origin is None else str(annotation)


def _bounds(interval: Interval, value: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = {sign: getattr(interval, name) for name, sign in signs.items()}
    words = [f"{sign} {limit}" for sign, limit in limits.items() if limit is not None]
    if interval.limit is not None and isinstance(value, (int, float)) and value > interval.limit:
        words.append(f"<= {interval.limit}")
    return " and ".join(words + (["odd"] if interval.odd else []))


def convert(annotation: Any, value: Any, where: str) -> Any:
    """The value as the annotation wants it (an int becomes a float where a float is wanted).

    Raises:
        UserError: The value does not fit; the sentence names `where`, the value and what was expected.
    """
    is_fit, converted = _try(annotation, value)
    if not is_fit:
        raise UserError(f"{where}={shown(value)} is not valid: expected {describe(annotation, value)}.")
    return converted


def fits(annotation: Any, value: Any) -> bool:
    """Whether the value fits the annotation."""
    kind = type(value)
    if kind in _plain_types(annotation):  # most values of a database, and it may hold a hundred thousand
        return math.isfinite(value) if kind is float else kind is not int or abs(value) <= _LARGEST_INT
    return _try(annotation, value)[0]


@cache
def _plain_types(annotation: Any) -> frozenset[type]:
    """The types whose values fit, as long as they are finite and not too large."""
    if get_origin(annotation) in _UNIONS:
        return frozenset().union(*map(_plain_types, get_args(annotation)))
    kinds = {None: {types.NoneType}, float: {float, int}}.get(annotation, {annotation})
    return frozenset(kinds) & {bool, int, float, str, types.NoneType}


def shown(value: Any) -> str:
    """A value as it stands in YAML, near enough for a sentence."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # What a terminal would obey is escaped.
    return value if isinstance(value, str) and len(value) <= 100 and value.isprintable() else _BRIEFLY.repr(value)


def _try(annotation: Any, value: Any) -> tuple[bool, Any]:
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return False, value
    if origin is Annotated:
        is_fit, converted = _try(args[0], value)
        return is_fit and all(_is_met(extra, converted) for extra in args[1:]), converted
    if origin in _UNIONS:
        # An exact match first: True must not become 1.0 in `float | bool`.
        for arg in sorted(args, key=lambda arg: not _is_exact(arg, value)):
            is_fit, converted = _try(arg, value)
            if is_fit:
                return True, converted
        return False, value
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in args), value
    if annotation is None or annotation is types.NoneType:
        return value is None, value
    if annotation is bool or annotation is str:
        return isinstance(value, annotation), value
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if annotation is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False, value
        return math.isfinite(value), float(value)
    if origin in (tuple, list, Sequence):
        return _try_items(annotation, value)
    if annotation in (dict, Mapping) or origin in (dict, Mapping):
        return _try_mapping(args, value)
    return True, value


def _is_met(condition: Any, value: Any) -> bool:
    if isinstance(condition, Interval):
        return condition.violation(value) is None
    return not isinstance(condition, Text) or re.fullmatch(condition.pattern, value) is not None


def _try_mapping(args: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, Mapping):
        return False, value
    if not args:
        return True, value
    results = {key: _try(args[1], item) for key, item in value.items()}
    fits = all(_try(args[0], key)[0] for key in value) and all(fits for fits, _ in results.values())
    return fits, {key: item for key, (_, item) in results.items()}


def _is_exact(annotation: Any, value: Any) -> bool:
    base = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return base is type(value)


def _try_items(annotation: Any, value: Any) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, value
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis) and len(args) != len(value):
        return False, value
    per_item = args if origin is tuple and args[-1] is not Ellipsis else (args[0],) * len(value)
    results = [_try(arg, item) for arg, item in zip(per_item, value, strict=True)]
    items = (item for _, item in results)
    return all(is_fit for is_fit, _ in results), tuple(items) if origin is tuple else list(items)


def build(cls: type[T], tree: Any, where: str) -> T:
    """An instance of the dataclass `cls` from a mapping that names each of its fields, all without a default at least.

    Raises:
        UserError: A key is unknown (with the nearest ones) or missing, or a value does not fit its field.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}={shown(tree)} is not valid: expected a mapping.")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    check_keys(tree, names, [field.name for field in fields if field.default is dataclasses.MISSING], where)
    return cls(**{name: convert(hints[name], tree[name], f"{where}.{name}") for name in names if name in tree})


@cache
def _hints(cls: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(cls, include_extras=True)


def check_keys(tree: Mapping[str, Any], known: Sequence[str], required: Sequence[str], where: str) -> None:
    """Refuse keys that are not known, and a tree that lacks a required one."""
    for key in tree:
        if key not in known:
            options = f" Known here: {', '.join(known)}." if known else ""
            raise UserError(f"{where}.{key} is not a setting.{nearest(str(key), known)}{options}")
    missing = [name for name in required if name not in tree]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing: give it a value.")
