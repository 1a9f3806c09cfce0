"""Classes read from their source: where they are defined, what they derive from, what their constructors take.

Nothing is imported, so that a config can be checked against a model before torch is loaded.
"""

import ast
import importlib.util
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import models.bounds
from datasets.common.errors import UserError
from search.machine import own_models

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
    """A constructor's parameter; `annotation` is `Any`, and `default` None, where it cannot be read statically."""

    annotation: Any
    is_required: bool
    default: Any = None


def signature(source: ClassSource) -> Mapping[str, Parameter] | None:
    """The constructor's parameters by name; None where it takes any keyword."""
    return (_signature if own_models.is_own(source.module) else _signature_once)(source)


def _signature(source: ClassSource) -> Mapping[str, Parameter] | None:
    for ancestor in ancestry(source):
        for item in ancestor.node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return None if item.args.kwarg else dict(_parameters(item.args, ancestor.module))
    return {}


_signature_once = cache(_signature)


def _parameters(arguments: ast.arguments, module: str) -> Iterator[tuple[str, Parameter]]:
    positional = (arguments.posonlyargs + arguments.args)[1:]  # without self
    n_required = len(positional) - len(arguments.defaults)
    for i, argument in enumerate(positional):
        yield argument.arg, Parameter(annotation=_evaluate(argument.annotation, module), is_required=i < n_required)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        annotation = _evaluate(argument.annotation, module)
        yield argument.arg, Parameter(annotation=annotation, is_required=default is None, default=_literal(default))


def _literal(default: ast.expr | None) -> Any:
    """A default that is a plain value; None of others."""
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:
        return None


def _evaluate(annotation: ast.expr | None, module: str) -> Any:
    if annotation is None:
        return Any
    try:
        return _value(annotation, module)
    except Exception:
        return Any  # a type of the class's own world: its constructor will judge


def _value(expression: ast.expr, module: str) -> Any:
    """An annotation's value; names that the module, or one it imports from, gives to annotations are followed."""
    namespace = dict(_NAMESPACE)
    for node in ast.walk(expression):
        if isinstance(node, ast.Name) and node.id not in namespace:
            alias = _find_alias(module, node.id)
            namespace[node.id] = Any if alias is None else _value(*alias)
    return eval(compile(ast.Expression(expression), "<annotation>", "eval"), namespace)


def _find_alias(module: str, name: str, depth: int = 0) -> tuple[ast.expr, str] | None:
    """The expression assigned to `name` at the top of a module, and the module that it stands in."""
    tree = parse_module(module)
    for statement in tree.body if tree is not None and depth <= 8 else ():
        if isinstance(statement, ast.Assign) and name in [ast.unparse(target) for target in statement.targets]:
            return statement.value, module
        if isinstance(statement, ast.ImportFrom):
            for imported in statement.names:
                if (imported.asname or imported.name) == name:
                    return _find_alias(_absolute(module, statement), imported.name, depth + 1)
    return None


def ancestry(source: ClassSource) -> Iterator[ClassSource]:
    """The class and the base classes that can be found, nearest first."""
    yield source
    for base in source.node.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(expression, ast.Name):
            found = find_class(source.module, expression.id)
            if found is not None:
                yield from ancestry(found)


def find_class(module: str, name: str, depth: int = 0) -> ClassSource | None:
    """The definition of `name` as seen in `module`, following `from x import y`."""
    # What files say is parsed once; a user's own models may be others from one command to the next.
    return (_find_class if own_models.is_own(module) else _find_class_once)(module, name, depth)


def _find_class(module: str, name: str, depth: int) -> ClassSource | None:
    tree = parse_module(module)
    if tree is None or depth > 8:
        return None
    for statement in _statements(tree):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return ClassSource(module=module, node=statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    found = find_class(_absolute(module, statement), alias.name, depth + 1)
                    if found is not None:
                        return found
    return None


_find_class_once = cache(_find_class)


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    for statement in tree.body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from statement.body


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    path = None if own_models.is_own(module) else _path(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    kept = parts[: len(parts) - statement.level + is_package]
    return ".".join(kept + ([statement.module] if statement.module else []))


def class_names(module: str) -> list[str]:
    """The classes that a module defines or imports."""
    tree = parse_module(module)
    if tree is None:
        return []
    defined = [item.name for item in tree.body if isinstance(item, ast.ClassDef)]
    imported = [alias.name for item in tree.body if isinstance(item, ast.ImportFrom) for alias in item.names]
    return defined + imported


def modules_beside(module: str) -> list[str]:
    """The modules of the package in which `module` was looked for."""
    package, _, _ = module.rpartition(".")
    if own_models.is_own(module):
        models = own_models.in_use()
        return [f"{package}.{name}" for name in sorted(models.sources)] if models else []
    path = _path(package) if package else None
    return [] if path is None else [f"{package}.{item.stem}" for item in sorted(path.parent.glob("*.py"))]


def parse_module(module: str) -> ast.Module | None:
    """The syntax tree of a module, None if there is none of that name; a UserError says where it is broken."""
    if own_models.is_own(module):
        models = own_models.in_use()
        source = models and models.source(module)
        return None if models is None or source is None else _parse(source, models.path(module))
    return _parse_file(module)


@cache
def _parse_file(module: str) -> ast.Module | None:
    path = _path(module)
    return None if path is None else _parse(path.read_text(encoding="utf-8"), path)


@cache
def _parse(source: str, path: Path) -> ast.Module:
    try:
        return ast.parse(source)
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
