"""Fields of a request that come from Python: made what they are to be, or refused in a sentence."""

import math
import operator
import os
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError


def several(name: str, value: Iterable[str]) -> tuple[str, ...]:
    """Return the texts of a setting that takes several; a UserError for one text, which would fall into letters."""
    return _several(name, value, str, "text")


def several_paths(name: str, value: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Return the paths of a setting that takes several; a UserError for one path, as of `several`."""
    return tuple(map(Path, _several(name, value, (str, os.PathLike), "path")))


def _several(name: str, value: Any, kind: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, kind):
        shown = repr(os.fspath(value))
        raise UserError(f"{name}={shown} is one {what}: expected a list, such as {name}=[{shown}].")
    if not isinstance(value, Iterable):
        raise UserError(f"{name} is of type {type(value).__name__}: expected a list of {what}s.")
    found = tuple(value)
    for one in found:
        if not isinstance(one, kind):
            raise UserError(f"{name} holds a value of type {type(one).__name__}: expected a list of {what}s.")
    return found


def set_paths(request: object, names: Iterable[str]) -> None:
    """Make paths of these fields of a frozen request, where they are not None; a UserError for what is none."""
    for name in names:
        value = getattr(request, name)
        if not isinstance(value, str | os.PathLike | None):
            raise UserError(f"{name} is of type {type(value).__name__}: expected the path of a file or folder.")
        object.__setattr__(request, name, None if value is None else Path(value))


def set_whole(request: object, names: Iterable[str], *, least: int | None = None, may_be_none: bool = False) -> None:
    """Make whole numbers of these fields of a frozen request, whoever's type they have; a UserError for what is none,
    and for those below `least`.
    """
    for name in names:
        value = getattr(request, name)
        if value is None and may_be_none:
            continue
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool):
            raise UserError(f"{name} is of type {type(value).__name__}: expected a whole number.")
        if least is not None and not least <= number < 2**63:  # a database keeps no larger ones
            raise UserError(f"{name}={number} is not valid: expected a whole number of at least {least}.")
        object.__setattr__(request, name, number)


def set_positive(request: object, names: Iterable[str]) -> None:
    """Make numbers of these fields of a frozen request, where they are not None; a UserError where not above 0."""
    for name in names:
        value = getattr(request, name)
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
            raise UserError(f"{name}={value!r} is not valid: expected a number above 0.")
        object.__setattr__(request, name, value if isinstance(value, int | float) else float(value))


def check_texts(request: object, names: Iterable[str], *, may_be_none: bool = False) -> None:
    """Refuse fields that are no text. Raises a UserError."""
    for name in names:
        value = getattr(request, name)
        if not (isinstance(value, str) or (value is None and may_be_none)):
            raise UserError(f"{name} is of type {type(value).__name__}: expected a text.")
