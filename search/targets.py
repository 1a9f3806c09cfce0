"""Classes named by configs: found, checked and built without trusting the name.

A `_target_` comes from files that people exchange. It may name only a class that is defined below one of the
allowed packages and that subclasses what is expected at its place. The check reads source files and imports
nothing, so that a misspelt hyperparameter is refused before torch is loaded; `instantiate` checks again on the
real class.
"""

import ast
import importlib
import importlib.util
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import models.bounds
from datasets.errors import UserError, nearest
from search.annotations import check_keys, convert, shown

ALLOWED = ("models", "search.pruning", "datasets", "optuna.samplers", "optuna.pruners", "lightning.pytorch")

MODEL = "models.fitness_model.FitnessModel"
VALIDATION = "datasets.validation.Validation"
SAMPLER = "optuna.samplers.BaseSampler"
PRUNER = "optuna.pruners.BasePruner"
LOGGER = "lightning.pytorch.loggers.Logger"
CALLBACK = "lightning.pytorch.callbacks.Callback"

# Names that an annotation may use: those of typing and of our bounds. Others leave a parameter unchecked.
_NAMESPACE: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Annotated", "Optional", "Union")},
    **{name: value for name, value in vars(models.bounds).items() if not name.startswith("_")},
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "tuple": tuple,
    "list": list,
    "dict": dict,
    "__builtins__": {},
}


@dataclass(frozen=True, kw_only=True)
class ClassSource:
    """Where a class is defined: its module and the syntax tree of its body."""

    module: str
    node: ast.ClassDef

    @property
    def identity(self) -> tuple[str, str]:
        """The class's own module and name."""
        return self.module, self.node.name


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A constructor's parameter; `annotation` is `Any` where it cannot be read statically."""

    annotation: Any
    is_required: bool


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
    source = _find_class(module, name)
    if source is None or not _is_allowed(source.module):
        if _parse(module) is None:
            hint = nearest(module, _modules_beside(module))
            raise UserError(f"{where}._target_={target} is not valid: there is no module {module}.{hint}")
        hint = nearest(name, _class_names(module))
        raise UserError(f"{where}._target_={target} is not a class defined in {module}.{hint}")
    expected = _find_class(*_split(base))
    if expected is None or expected.identity not in {ancestor.identity for ancestor in _ancestry(source)}:
        raise UserError(f"{where}._target_={target} is not a {base}: name a class that is one.")
    return source


def signature(source: ClassSource) -> dict[str, Parameter] | None:
    """The constructor's parameters by name; None where it takes any keyword."""
    for ancestor in _ancestry(source):
        for item in ancestor.node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return None if item.args.kwarg else dict(_parameters(item.args))
    return {}


def _parameters(arguments: ast.arguments) -> Iterator[tuple[str, Parameter]]:
    positional = (arguments.posonlyargs + arguments.args)[1:]  # without self
    n_required = len(positional) - len(arguments.defaults)
    for i, argument in enumerate(positional):
        yield argument.arg, Parameter(annotation=_evaluate(argument.annotation), is_required=i < n_required)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg, Parameter(annotation=_evaluate(argument.annotation), is_required=default is None)


def _evaluate(annotation: ast.expr | None) -> Any:
    if annotation is None:
        return Any
    try:
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(_NAMESPACE))
    except Exception:
        return Any  # a type of the class's own world: its constructor will judge


def _is_allowed(name: str) -> bool:
    # Only identifiers between the dots: `models./tmp/x.X` would lead to a file outside of the package.
    is_plain = all(part.isidentifier() for part in name.split("."))
    return is_plain and any(name == package or name.startswith(package + ".") for package in ALLOWED)


def _split(target: str) -> tuple[str, str]:
    module, _, name = target.rpartition(".")
    return module, name


def _ancestry(source: ClassSource) -> Iterator[ClassSource]:
    """The class and the base classes that can be found, nearest first."""
    yield source
    for base in source.node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(expression, ast.Name):
            found = _find_class(source.module, expression.id)
            if found is not None:
                yield from _ancestry(found)


@cache
def _find_class(module: str, name: str, depth: int = 0) -> ClassSource | None:
    """The definition of `name` as seen in `module`, following `from x import y`."""
    tree = _parse(module)
    if tree is None or depth > 8:
        return None
    for statement in _statements(tree):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return ClassSource(module=module, node=statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    found = _find_class(_absolute(module, statement), alias.name, depth + 1)
                    if found is not None:
                        return found
    return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from statement.body


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    path = _path(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    kept = parts[: len(parts) - statement.level + is_package]
    return ".".join(kept + ([statement.module] if statement.module else []))


def _class_names(module: str) -> list[str]:
    tree = _parse(module)
    if tree is None:
        return []
    defined = [item.name for item in tree.body if isinstance(item, ast.ClassDef)]
    imported = [alias.name for item in tree.body if isinstance(item, ast.ImportFrom) for alias in item.names]
    return defined + imported


def _modules_beside(module: str) -> list[str]:
    """The modules of the package in which `module` was looked for."""
    package, _, _ = module.rpartition(".")
    path = _path(package) if package else None
    return [] if path is None else [f"{package}.{item.stem}" for item in sorted(path.parent.glob("*.py"))]


@cache
def _parse(module: str) -> ast.Module | None:
    path = _path(module)
    if path is None:
        return None
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # a model that somebody is writing just now
        raise UserError(f"{path} is not valid Python: {error}.") from None


def _path(module: str) -> Path | None:
    """The source file of a module, found below its top-level package without importing anything."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        place = Path(folder, *rest)
        for path in (place / "__init__.py", place.with_suffix(".py") if rest else place / "__init__.py"):
            if path.is_file():
                return path
    return None
