"""The leaves of a search space: how the value at one place is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.config.nested import Scalar
from search.config.type_checks import build, shown

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True, kw_only=True)
class IntRange:
    """Integers from `low` to `high`, both included."""

    type: str
    low: int
    high: int
    step: int | None
    log: bool
    when: dict[str, Any]

    @property
    def extremes(self) -> list[Scalar]:
        """The values at which a range shows what it reaches."""
        # The second value as well: it tells whether even numbers are reached.
        return [*sorted({self.low, min(self.low + (self.step or 1), self.high), self.high})]

    def contains(self, value: Any) -> bool:
        """Whether a trial may be given the value."""
        return isinstance(value, int) and not isinstance(value, bool) and _is_reached(self, value)

    def ask(self, trial: "Trial", name: str) -> Scalar:
        """A value from the sampler."""
        return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)


@dataclass(frozen=True, kw_only=True)
class FloatRange:
    """Numbers from `low` to `high`, both included."""

    type: str
    low: float
    high: float
    step: float | None
    log: bool
    when: dict[str, Any]

    @property
    def extremes(self) -> list[Scalar]:
        """The values at which a range shows what it reaches."""
        return [self.low] if self.low == self.high else [self.low, self.high]

    def contains(self, value: Any) -> bool:
        """Whether a trial may be given the value; an integer stands for a float."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_reached(self, value)

    def ask(self, trial: "Trial", name: str) -> Scalar:
        """A value from the sampler."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some plain values, without an order."""

    type: str
    choices: list[Any]
    when: dict[str, Any]

    @property
    def extremes(self) -> list[Scalar]:
        """All choices."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether a trial may be given the value."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def ask(self, trial: "Trial", name: str) -> Scalar:
        """A value from the sampler."""
        chosen: Scalar = trial.suggest_categorical(name, self.choices)
        return chosen


Leaf = IntRange | FloatRange | Choice
_NUMBER_DEFAULTS: dict[str, Any] = {"step": None, "log": False, "when": {}}
_KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "int": (IntRange, _NUMBER_DEFAULTS),
    "float": (FloatRange, _NUMBER_DEFAULTS),
    "categorical": (Choice, {"when": {}}),
}


def make_leaf(settings: Mapping[str, Any], where: str) -> Leaf:
    """Read a leaf.

    Raises:
        UserError: Its type or a setting is unknown, or a setting does not fit; the sentence names `where`.
    """
    if settings["type"] not in _KINDS:
        raise UserError(f"{where}.type={settings['type']} is not valid: expected {', '.join(_KINDS)}.")
    cls, defaults = _KINDS[settings["type"]]
    leaf: Leaf = build(cls, {**defaults, **settings}, where)
    problem = _choice_problem(leaf) if isinstance(leaf, Choice) else _range_problem(leaf)
    if problem:
        raise UserError(f"{where} is not valid: {problem}.")
    # The last value that the steps reach: Optuna would take it with a warning in every trial.
    if isinstance(leaf, IntRange) and leaf.step is not None:
        return replace(leaf, high=leaf.high - (leaf.high - leaf.low) % leaf.step)
    if isinstance(leaf, FloatRange) and leaf.step is not None:
        low, high, step = (Decimal(str(number)) for number in (leaf.low, leaf.high, leaf.step))
        return replace(leaf, high=float(high - (high - low) % step))
    return leaf


def _is_reached(leaf: IntRange | FloatRange, value: float) -> bool:
    if not leaf.low <= value <= leaf.high:
        return False
    n_steps = 0.0 if leaf.step is None else (value - leaf.low) / leaf.step
    return abs(n_steps - round(n_steps)) < 1e-9


def _choice_problem(leaf: Choice) -> str | None:
    if not leaf.choices:
        return "choices is empty, expected at least one"
    for i, choice in enumerate(leaf.choices):
        if not isinstance(choice, Scalar) or (isinstance(choice, float) and not isfinite(choice)):
            return f"choices holds {shown(choice)}, expected plain values"
        if choice in leaf.choices[:i]:  # 1, 1.0 and true are equal for the database
            return f"choices holds {shown(choice)} twice"
    return None


def _range_problem(leaf: IntRange | FloatRange) -> str | None:
    if leaf.low > leaf.high:
        return f"low={leaf.low} is above high={leaf.high}"
    if leaf.log and leaf.low <= 0:
        return f"low={leaf.low} with log: true, expected a value above 0"
    if leaf.log and leaf.step is not None:
        return "log and step exclude each other, leave one out"
    if leaf.step is not None and leaf.step <= 0:
        return f"step={leaf.step}, expected a value above 0"
    return None
