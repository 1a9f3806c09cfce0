"""The search space: a tree that mirrors the config, whose leaves say how a value is chosen.

    model:
      channels: {type: int, low: 16, high: 128, log: true}
      pooling: {type: categorical, choices: [mean, attention]}
      heads: {type: int, low: 1, high: 8, when: {model.pooling: attention}}

A trial's parameter is named by its path (`model.channels`). `when` maps other paths to the value, or list of
values, under which the leaf is searched; those may be searched themselves or fixed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from math import isfinite
from typing import TYPE_CHECKING, Any

from datasets.errors import UserError, nearest
from search.annotations import build, shown
from search.trees import digest, flatten, lookup

if TYPE_CHECKING:
    from optuna import Trial

Scalar = bool | int | float | str | None
_NUMBER_DEFAULTS: dict[str, Any] = {"step": None, "log": False, "when": {}}


@dataclass(frozen=True, kw_only=True)
class _IntRange:
    type: str
    low: int
    high: int
    step: int | None
    log: bool
    when: dict[str, Any]

    @property
    def extremes(self) -> list[int]:
        # The second value as well: it tells whether even numbers are reached.
        return sorted({self.low, min(self.low + (self.step or 1), self.high), self.high})


@dataclass(frozen=True, kw_only=True)
class _FloatRange:
    type: str
    low: float
    high: float
    step: float | None
    log: bool
    when: dict[str, Any]

    @property
    def extremes(self) -> list[float]:
        return [self.low, self.high]


@dataclass(frozen=True, kw_only=True)
class _Choice:
    type: str
    choices: list[Any]
    when: dict[str, Any]

    @property
    def extremes(self) -> list[Any]:
        return self.choices


Leaf = _IntRange | _FloatRange | _Choice
_KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "int": (_IntRange, _NUMBER_DEFAULTS),
    "float": (_FloatRange, _NUMBER_DEFAULTS),
    "categorical": (_Choice, {"when": {}}),
}


@dataclass(frozen=True, kw_only=True)
class Space:
    """The leaves by path, each after those that its condition names."""

    leaves: Mapping[str, Leaf]

    def __len__(self) -> int:
        return len(self.leaves)

    @property
    def tree(self) -> dict[str, Any]:
        """Plain values for printing, hashing and comparing: path to settings, without unset ones."""
        return {
            path: {key: value for key, value in vars(leaf).items() if value is not None and value != {}}
            for path, leaf in self.leaves.items()
        }

    @property
    def hash(self) -> str:
        """SHA-256 of the space."""
        return digest(self.tree)

    def contains(self, path: str, value: Any) -> bool:
        """Whether a trial may be given `value` at `path`."""
        return path in self.leaves and _contains(self.leaves[path], value)

    def suggest(self, trial: "Trial", config: Mapping[str, Any]) -> dict[str, Scalar]:
        """Ask the trial for a value of every leaf whose condition holds; `config` holds the fixed values."""
        params: dict[str, Scalar] = {}
        for path, leaf in self.leaves.items():
            if not _holds(leaf.when, params, config):
                continue
            if isinstance(leaf, _Choice):
                params[path] = trial.suggest_categorical(path, leaf.choices)
            elif isinstance(leaf, _IntRange):
                params[path] = trial.suggest_int(path, leaf.low, leaf.high, step=leaf.step or 1, log=leaf.log)
            else:
                params[path] = trial.suggest_float(path, leaf.low, leaf.high, step=leaf.step, log=leaf.log)
        return params

    def complete(self, partial: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Scalar] | None:
        """Parameters for a trial that is fixed in advance: `partial`, then the config's own values.

        None if they do not lie in the space, or contradict a value that was fixed.
        """
        params: dict[str, Scalar] = {}
        for path, leaf in self.leaves.items():
            if not _holds(leaf.when, params, config):
                continue
            value = partial[path] if path in partial else lookup(config, path)
            if not _contains(leaf, value):
                return None
            params[path] = float(value) if isinstance(leaf, _FloatRange) else value
        agrees = all(path in params or lookup(config, path) == value for path, value in partial.items())
        return params if agrees else None


def make_space(tree: Mapping[str, Any], config: Mapping[str, Any], fixed: list[str]) -> Space:
    """Read the space of a config; paths below one of `fixed` were set by the user and leave it.

    Raises:
        UserError: A leaf is malformed, stands where the config has no value, or conditions run in a circle.
    """
    known = [path for path, _ in flatten(config)]
    leaves: dict[str, Leaf] = {}
    for path, settings in _find_leaves(tree):
        if path == "task":
            raise UserError("space.task is not valid: a study is about one task, start one for each.")
        if lookup(config, path, None) is None and path not in known:
            raise UserError(f"space.{path} has no value in the config to search for.{nearest(path, known)}")
        if not any(path == name or path.startswith(f"{name}.") for name in fixed):
            leaves[path] = _make_leaf(settings, f"space.{path}")
    return Space(leaves=_resolve_conditions(leaves, config, known))


def _find_leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            raise UserError(
                f"space.{path}={shown(value)} is not valid: expected a mapping with type: int, float or categorical."
            )
        if isinstance(value.get("type"), str):
            yield path, value
        else:
            yield from _find_leaves(value, f"{path}.")


def _make_leaf(settings: Mapping[str, Any], where: str) -> Leaf:
    if settings["type"] not in _KINDS:
        raise UserError(f"{where}.type={settings['type']} is not valid: expected {', '.join(_KINDS)}.")
    cls, defaults = _KINDS[settings["type"]]
    leaf: Leaf = build(cls, {**defaults, **settings}, where)
    problem = _problem(leaf)
    if problem:
        raise UserError(f"{where} is not valid: {problem}.")
    # The last value that the steps reach: Optuna would take it with a warning in every trial.
    if isinstance(leaf, _IntRange) and leaf.step is not None:
        return replace(leaf, high=leaf.high - (leaf.high - leaf.low) % leaf.step)
    if isinstance(leaf, _FloatRange) and leaf.step is not None:
        low, high, step = (Decimal(str(number)) for number in (leaf.low, leaf.high, leaf.step))
        return replace(leaf, high=float(high - (high - low) % step))
    return leaf


def _problem(leaf: Leaf) -> str | None:
    if isinstance(leaf, _Choice):
        if not leaf.choices:
            return "choices is empty, expected at least one"
        for i, choice in enumerate(leaf.choices):
            if not isinstance(choice, Scalar) or (isinstance(choice, float) and not isfinite(choice)):
                return f"choices holds {shown(choice)}, expected plain values"
            if choice in leaf.choices[:i]:  # 1, 1.0 and true are equal for the database
                return f"choices holds {shown(choice)} twice"
        return None
    if leaf.low > leaf.high:
        return f"low={leaf.low} is above high={leaf.high}"
    if leaf.log and leaf.low <= 0:
        return f"low={leaf.low} with log: true, expected a value above 0"
    if leaf.log and leaf.step is not None:
        return "log and step exclude each other, leave one out"
    if leaf.step is not None and leaf.step <= 0:
        return f"step={leaf.step}, expected a value above 0"
    return None


def _resolve_conditions(leaves: dict[str, Leaf], config: Mapping[str, Any], known: list[str]) -> dict[str, Leaf]:
    """Drop leaves whose condition cannot hold any more, and put those that others depend on first."""
    for path, leaf in leaves.items():
        for name in leaf.when:
            if name not in known:
                raise UserError(f"space.{path}.when names {name}, which is no setting.{nearest(name, known)}")
        _check_condition(path, leaf, leaves)
    while True:
        kept = {
            path: leaf
            for path, leaf in leaves.items()
            if all(name in leaves or _matches(lookup(config, name), want) for name, want in leaf.when.items())
        }
        # A leaf that fell out stands at its config value from now on, which may decide others.
        if len(kept) == len(leaves):
            break
        leaves = kept
    graph = {path: [name for name in leaf.when if name in leaves] for path, leaf in leaves.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise UserError(f"The conditions (when) of {', '.join(error.args[1])} run in a circle.") from None
    return {path: leaves[path] for path in order}


def _check_condition(path: str, leaf: Leaf, leaves: Mapping[str, Leaf]) -> None:
    """Refuse a condition on a value that is never sampled: the leaf would silently not be searched."""
    for name, want in leaf.when.items():
        for value in want if isinstance(want, (list, tuple)) else [want]:
            parent = leaves.get(name)
            if parent is not None and not _contains(parent, value):
                choices = [str(choice) for choice in parent.choices] if isinstance(parent, _Choice) else []
                raise UserError(
                    f"space.{path}.when waits for {name}={shown(value)}, which is never sampled."
                    f"{nearest(str(value), choices)}"
                )


def _holds(when: Mapping[str, Any], params: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return all(_matches(params[name] if name in params else lookup(config, name), want) for name, want in when.items())


def _matches(value: Any, want: Any) -> bool:
    return value in want if isinstance(want, (list, tuple)) else bool(value == want)


def _contains(leaf: Leaf, value: Any) -> bool:
    if isinstance(leaf, _Choice):
        return any(value == choice and type(value) is type(choice) for choice in leaf.choices)
    if isinstance(value, bool) or not isinstance(value, int if isinstance(leaf, _IntRange) else (int, float)):
        return False
    if not leaf.low <= value <= leaf.high:
        return False
    n_steps = 0.0 if leaf.step is None else (value - leaf.low) / leaf.step
    return abs(n_steps - round(n_steps)) < 1e-9
