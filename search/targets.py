"""Classes named by configs: found, checked and built without trusting the name.

A `_target_` comes from files that people exchange. It may name only a class that is defined below one of the
allowed packages and that subclasses what is expected at its place. The check reads source files and imports
nothing, so that a misspelt hyperparameter is refused before torch is loaded; `instantiate` checks again on the
real class.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets.errors import UserError, nearest
from search.annotations import check_keys, convert, shown
from search.class_source import ClassSource, ancestry, class_names, find_class, modules_beside, parse_module, signature

ALLOWED = (
    "models",
    "search.pruning",
    "search.fold_pruning",
    "datasets",
    "optuna.samplers",
    "optuna.pruners",
    "lightning.pytorch",
)

MODEL = "models.fitness_model.FitnessModel"
DIVISION = "datasets.validation.Division"
VALIDATION = "datasets.validation.Validation"
SAMPLER = "optuna.samplers.BaseSampler"
PRUNER = "optuna.pruners.BasePruner"
LOGGER = "lightning.pytorch.loggers.Logger"
CALLBACK = "lightning.pytorch.callbacks.Callback"


def check(tree: Any, base: str, where: str, given: Sequence[str] = ()) -> dict[str, Any]:
    """Check a mapping with `_target_` and constructor arguments; arguments come back converted.

    `given` names arguments that the program itself adds when it builds the object.

    Raises:
        UserError: The class is not allowed, is none, or is not a `base`; an argument is unknown or does not fit.
    """
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
    parameters = signature(source)
    if parameters is not None:
        required = [name for name, parameter in parameters.items() if parameter.is_required]
        required = [name for name in required if name not in given]
        check_keys(arguments, list(parameters), required, where)
    checked: dict[str, Any] = {"_target_": target}
    for name, value in arguments.items():
        place = f"{where}.{name}"
        if isinstance(value, Mapping) and "_target_" in value:
            checked[name] = check(value, base, place)  # a sampler in a sampler, a pruner in a pruner
        else:
            annotation = parameters[name].annotation if parameters and name in parameters else Any
            checked[name] = convert(annotation, value, place)
    return checked


def instantiate(tree: Mapping[str, Any], base: str, where: str, **extra: Any) -> Any:
    """Build the object that a checked mapping describes; `extra` are arguments given by the program itself.

    What `check` found in the sources is found again on the class itself.
    """
    module, _, name = str(tree["_target_"]).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name) if _is_allowed(module) else None
    except (ImportError, AttributeError):
        cls = None
    base_module, _, base_name = base.rpartition(".")
    expected = getattr(importlib.import_module(base_module), base_name)
    if not (isinstance(cls, type) and issubclass(cls, expected) and _is_allowed(cls.__module__)):
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
    if not _is_allowed(target):
        raise UserError(
            f"{where}._target_={target} is outside the allowed packages ({', '.join(ALLOWED)}): "
            "configs may name classes of these alone."
        )
    module, _, name = target.rpartition(".")
    source = find_class(module, name)
    if source is None or not _is_allowed(source.module):
        if parse_module(module) is None:
            hint = nearest(module, modules_beside(module))
            raise UserError(f"{where}._target_={target} is not valid: there is no module {module}.{hint}")
        hint = nearest(name, class_names(module))
        raise UserError(f"{where}._target_={target} is not a class defined in {module}.{hint}")
    expected = find_class(*_split(base))
    if expected is None or expected.identity not in {ancestor.identity for ancestor in ancestry(source)}:
        raise UserError(f"{where}._target_={target} is not a {base}: name a class that is one.")
    return source


def _is_allowed(name: str) -> bool:
    # Only identifiers between the dots: `models./tmp/x.X` would lead to a file outside of the package.
    is_plain = all(part.isidentifier() for part in name.split("."))
    return is_plain and any(name == package or name.startswith(package + ".") for package in ALLOWED)


def _split(target: str) -> tuple[str, str]:
    module, _, name = target.rpartition(".")
    return module, name
