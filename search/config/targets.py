"""Classes named by configs: found, checked and built without trusting the name.

A `_target_` comes from files that people exchange. It may name only a class that is defined below one of the
allowed packages and that subclasses what is expected at its place. The check reads source files and imports
nothing, so that a misspelt hyperparameter is refused before torch is loaded; `instantiate` checks again on the
real class. What it may be given is what its constructor says, or, of classes that are not ours, what
`search.config.allowed_classes` lists.
"""

import ast
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from datasets.common.errors import UserError, nearest
from datasets.validation.names import MODULES
from search.config.allowed_classes import ARGUMENTS, CALLBACK, LOGGER, PRUNER, SAMPLER, TRACKERS, Nested
from search.config.static_classes import (
    ClassSource,
    Parameter,
    ancestry,
    class_names,
    find_class,
    modules_beside,
    parse_module,
    signature,
)
from search.config.type_checks import check_keys, convert, shown
from search.machine import own_models

__all__ = [
    "CALLBACK",
    "DIVISION",
    "LOGGER",
    "MODEL",
    "PRUNER",
    "SAMPLER",
    "VALIDATION",
    "check",
    "instantiate",
    "is_exact",
    "locate",
    "tracker_in",
]

_OURS = ("models", "datasets", own_models.PACKAGE)
ALLOWED = (
    *_OURS,
    "search.fold_pruning",
    "optuna.samplers",
    "optuna.pruners",
    "lightning.pytorch.loggers",
    "lightning.pytorch.callbacks",
)

MODEL = "models.fitness_model.FitnessModel"
_EXACT = "models.closed_form.ClosedForm"
_DEVIATION = "predict_with_std"
DIVISION = "datasets.validation.Division"
VALIDATION = "datasets.validation.Validation"

# Where the modules are that configs know by another name.
_MOVED = {**MODULES, "search.fold_pruning": "search.study.pruning"}
_KNOWN_AS = {place: name for name, place in _MOVED.items()}

_MOST_NESTED = 8
_LONGEST_TEXT = 10_000


def check(tree: Any, base: str, where: str, given: Sequence[str] = (), *, depth: int = 1) -> dict[str, Any]:
    """Check a mapping with `_target_` and constructor arguments; arguments come back converted.

    `given` names arguments that the program itself adds when it builds the object; `depth` counts the classes that
    the mapping lies in, itself included.

    Raises:
        UserError: The class is not allowed, is none, or is not a `base`; an argument is unknown or does not fit.
    """
    if depth > _MOST_NESTED:
        raise UserError(f"{where} is not valid: more than {_MOST_NESTED} classes stand in one another.")
    if not isinstance(tree, Mapping) or "_target_" not in tree:
        raise UserError(f"{where} is not valid: expected a mapping with _target_, the class to build.")
    target = tree["_target_"]
    if not isinstance(target, str):
        raise UserError(f"{where}._target_={shown(target)} is not valid: expected the name of a class.")
    source = locate(target, base, where)
    arguments = {str(key): value for key, value in tree.items() if key != "_target_"}
    for name in given:
        if name in arguments:
            raise UserError(f"{where}.{name} cannot be set: flipsearch sets it for every run, leave it out.")
    parameters = _parameters(source, base, f"{where}._target_={target}")
    required = [name for name, parameter in parameters.items() if parameter.is_required and name not in given]
    check_keys(arguments, [name for name in parameters if name not in given], required, where)
    checked: dict[str, Any] = {"_target_": target}
    for name, value in arguments.items():
        place, annotation = f"{where}.{name}", parameters[name].annotation
        if isinstance(value, Mapping) and "_target_" in value:
            # A sampler in a sampler, a pruner in a pruner.
            checked[name] = check(value, base, place, depth=depth + 1)
            if not (annotation is Any or isinstance(annotation, Nested)):
                convert(annotation, value, place)
        elif isinstance(annotation, Nested):
            if value is not None or not annotation.is_optional:
                raise UserError(f"{place}={shown(value)} is not valid: expected a mapping with _target_.")
            checked[name] = None
        else:
            checked[name] = convert(annotation, value, place)
            _check_plain(value, place)
    return checked


def defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a model of ours has a default for, with it: what the model was before it had the argument."""
    source = locate(str(model["_target_"]), MODEL, "model")
    parameters = {} if own_models.is_own(source.module) else _parameters(source, MODEL, "model")
    return {name: parameter.default for name, parameter in parameters.items() if not parameter.is_required}


def instantiate(tree: Mapping[str, Any], base: str, where: str, **extra: Any) -> Any:
    """Build the object that a checked mapping describes; `extra` are arguments given by the program itself.

    What `check` found in the sources is found again on the class itself.
    """
    module, name = _split(str(tree["_target_"]))
    try:
        import_module = own_models.import_own if own_models.is_own(module) else importlib.import_module
        cls = getattr(import_module(module), name) if _is_allowed_module(module) else None
    except (ImportError, AttributeError):
        cls = None
    base_module, base_name = _split(base)
    expected = getattr(importlib.import_module(base_module), base_name)
    if not (isinstance(cls, type) and issubclass(cls, expected) and _is_allowed_module(cls.__module__)):
        raise UserError(f"{where}._target_={tree['_target_']} is not a {base}: name a class that is one.")
    arguments = {
        key: instantiate(value, base, f"{where}.{key}") if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in tree.items()
        if key != "_target_"
    }
    try:
        return cls(**arguments, **extra)
    except (TypeError, ValueError, AttributeError, ImportError) as error:  # of arguments that no annotation describes
        raise UserError(f"{where} cannot be built: {' '.join(str(error).split())}") from error


def locate(target: str, base: str, where: str) -> ClassSource:
    """The definition of the class that `target` names.

    Raises:
        UserError: The name lies outside the allowed packages, names no class, or one that is not a `base`.
    """
    is_own = own_models.is_own(target)
    if not _is_allowed(target) or (is_own and base not in (MODEL, _EXACT)):
        raise UserError(
            f"{where}._target_={target} is outside the allowed packages ({', '.join(ALLOWED)}): "
            "configs may name classes of these alone."
        )
    module, _, name = target.rpartition(".")
    if is_own and module.count(".") == 1 and own_models.in_use() is None:
        raise UserError(
            f"{where}._target_={target} is a model outside the checkout: name the folder that holds "
            f"{module.rpartition('.')[2]}.py {own_models.HOW_TO_NAME}."
        )
    place, _ = _split(target)
    source = find_class(place, name)
    if source is None or not _is_allowed_module(source.module):
        if parse_module(place) is None:
            hint = nearest(module, [*modules_beside(module), *_MOVED])
            raise UserError(f"{where}._target_={target} is not valid: there is no module {module}.{hint}")
        hint = nearest(name, class_names(place))
        raise UserError(f"{where}._target_={target} is not a class defined in {module}.{hint}")
    expected = find_class(*_split(base))
    if expected is None or expected.identity not in {ancestor.identity for ancestor in ancestry(source)}:
        raise UserError(f"{where}._target_={target} is not a {base}: name a class that is one.")
    return source


def is_exact(model: Any) -> bool:
    """Whether a config's `model` is solved at once and has no epochs; False of what `check` refuses."""
    target = model.get("_target_") if isinstance(model, Mapping) else None
    try:
        return isinstance(target, str) and locate(target, _EXACT, "model") is not None
    except UserError:
        return False


def tracker_in(logger: Mapping[str, Any] | None) -> str | None:
    """`wandb` or `mlflow`, where a config's `logger` stands for one of them by whatever name; None of any other."""
    if logger is None:
        return None
    own = _identity(str(logger.get("_target_")))
    return next((tracker for name, tracker in TRACKERS.items() if own is not None and _identity(name) == own), None)


def knows_deviation(model: Mapping[str, Any]) -> bool:
    """Whether a config's `model` knows the standard deviation of what it predicts (`FitnessModel.predict_with_std`)."""
    own = (one for one in ancestry(locate(str(model["_target_"]), MODEL, "model")) if one.identity != _identity(MODEL))
    return any(isinstance(item, ast.FunctionDef) and item.name == _DEVIATION for one in own for item in one.node.body)


def _parameters(source: ClassSource, base: str, where: str) -> Mapping[str, Parameter]:
    """What a config may give to a class."""
    found = signature(source)
    if source.module.partition(".")[0] in _OURS:
        if found is None:
            raise UserError(f"{where} takes any keyword (`**`): name the arguments in its constructor.")
        return found
    known = next((name for name in ARGUMENTS if _identity(name) == source.identity), None)
    if known is None:
        package, _ = _split(base)
        names = [name for name in ARGUMENTS if name.startswith(package)]
        raise UserError(f"{where} is not one of the classes that a config may name: {', '.join(names)}.")
    return {
        name: Parameter(annotation=annotation, is_required=found is not None and found[name].is_required)
        for name, annotation in ARGUMENTS[known].items()
        if found is None or name in found
    }


def _identity(target: str) -> tuple[str, str] | None:
    source = find_class(*_split(target))
    return None if source is None else source.identity


def _check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what is no plain value, and one that is larger than any argument has reason to be."""
    if isinstance(value, Mapping) and depth < _MOST_NESTED:
        for key, item in value.items():
            _check_plain(key, where, depth + 1)
            _check_plain(item, where, depth + 1)
    elif isinstance(value, (list, tuple)) and depth < _MOST_NESTED:
        for item in value:
            _check_plain(item, where, depth + 1)
    elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise UserError(f"{where} is not valid: expected at most {_LONGEST_TEXT:,} letters, here are {len(value):,}.")
    elif not (
        value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    ):
        raise UserError(f"{where}={shown(value)} is not valid: expected plain values, not deeper than {_MOST_NESTED}.")


def _is_allowed(name: str) -> bool:
    # Only identifiers between the dots: `models./tmp/x.X` would lead to a file outside of the package.
    is_plain = all(part.isidentifier() for part in name.split("."))
    return is_plain and any(name == package or name.startswith(package + ".") for package in ALLOWED)


def _is_allowed_module(place: str) -> bool:
    return _is_allowed(_KNOWN_AS.get(place, place))


def _split(target: str) -> tuple[str, str]:
    """The module that a class is defined in now, and its name."""
    module, _, name = target.rpartition(".")
    return _MOVED.get(module, module), name
