"""Hydra's compose with errors in one sentence, alternatives in the space, and the user's own configs beside ours."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from datasets.common.errors import UserError, nearest
from search.config.hydra_tree import composed
from search.config.nested import lookup
from search.config.type_checks import shown
from search.machine import own_models


def compose(overrides: Sequence[str], studies: Path) -> dict[str, Any]:
    """The composed tree, interpolations kept.

    Raises:
        UserError: An override cannot be parsed, or names a group, option or key that does not exist.
    """
    parsed = parse(overrides)
    for override in parsed:
        if (studies / override.key_or_group).is_dir() and not override.is_delete():
            own = own_names() if override.key_or_group in ("model", "space") else []
            _check_option(override, [*group_options(studies, override.key_or_group), *own])
    try:
        return _compose(parsed, studies)
    except _REFUSALS as error:
        refusal = error
    of_others = [override for override in parsed if not _is_of_space(override)]
    if len(of_others) < len(parsed):
        try:
            changed = _with_replacements(parsed, _compose(of_others, studies))
            if changed != list(overrides):
                return _compose(parse(changed), studies)
        except _REFUSALS as error:
            refusal = error
    raise UserError(_sentence(refusal, parsed))


# Hydra's own, and what comes through it from a key that should be the number of an element of a list.
_REFUSALS = (HydraException, MissingConfigException, OmegaConfBaseException, TypeError, ValueError)


def _compose(overrides: Sequence[Override], studies: Path) -> dict[str, Any]:
    models = own_models.in_use()
    try:
        with own_options():
            return composed(overrides, studies, models.configs if models else {})
    except YAMLError as error:
        raise UserError(f"A file below {studies} is not valid YAML: {' '.join(str(error).split())}.") from None


def _is_of_space(override: Override) -> bool:
    """Whether the override changes something in the space, not which space it is."""
    return override.key_or_group.startswith("space.")


def _with_replacements(overrides: Sequence[Override], tree: Mapping[str, Any]) -> list[str]:
    """The overrides, changed where one puts a list of alternatives for a single leaf of the space, or the reverse.

    Hydra merges such values or fails: each becomes a removal and an addition. `tree` is what the others are for.

    Raises:
        UserError: One goes into a list of alternatives without naming one of them.
    """
    lines: list[str] = []
    for override in overrides:
        path = override.key_or_group
        if _is_of_space(override):
            _check_way(path, tree)
        kinds = {type(lookup(tree, path, None)), type(override.value())}
        if _is_of_space(override) and not override.is_add() and kinds == {list, dict}:
            lines += [f"~{path}", f"+{path}={override.get_value_element_as_str()}"]
        else:
            lines.append(str(override.input_line))
    return lines


def _check_way(path: str, tree: Mapping[str, Any]) -> None:
    """Refuse to go on below a list by anything but the number of an element."""
    keys = path.split(".")
    for i in range(1, len(keys)):
        parent = ".".join(keys[:i])
        found = lookup(tree, parent, None)
        if isinstance(found, list) and (i == len(keys) - 1 or keys[i] not in map(str, range(len(found)))):
            raise UserError(
                f"{path} cannot be changed: {parent} is a list of {len(found)} alternatives, change one by its "
                f"number, as in {parent}.0.choices=[...], or replace them all with {parent}=[...]."
            )


_OF_ONE_CLASS = ("logger", "model", "pruner", "sampler", "validation")


def _check_option(override: Override, options: Sequence[str]) -> None:
    """Refuse an option that its config group does not have; several may be named in a list, unless they are classes."""
    value = override.value()
    if isinstance(value, list) and len(value) > 1 and override.key_or_group in _OF_ONE_CLASS:
        raise UserError(
            f"{override.key_or_group}=[{','.join(map(shown, value))}] names several, of which the last alone would be "
            "taken: name one."
        )
    for option in value if isinstance(value, list) and value else [value]:
        if option not in options:
            expected = f"expected one of {', '.join(options)}" if options else "there is none yet"
            raise UserError(
                f"{override.key_or_group}={shown(option)} is unknown: {expected}.{nearest(str(option), options)}"
            )


def fixed_paths(overrides: Sequence[str], studies: Path) -> list[str]:
    """The config paths that the overrides give a value, groups and the space itself aside."""
    return [
        override.key_or_group
        for override in parse(overrides)
        if not override.is_delete() and not (studies / override.key_or_group).is_dir() and not _is_of_space(override)
    ]


def group_options(studies: Path, group: str) -> list[str]:
    """The options of a config group: the names of its YAML files."""
    return sorted(path.stem for path in (studies / group).glob("*.yaml"))


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse Hydra overrides.

    Raises:
        UserError: One is not of the form `key=value`, or names several values.
    """
    return [_parse_one(text) for text in overrides]


@cache
def _parse_one(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise UserError(
            f"{text!r} is not an override: expected key=value, +key=value or ~key (quote what the shell takes)."
        ) from None
    if override.is_sweep_override():
        raise UserError(
            f"{text!r} names several values: to search {override.key_or_group}, "
            f"give its space, as in '+space.{override.key_or_group}={{type: categorical, choices: [...]}}'."
        )
    return override


def _sentence(error: Exception, overrides: Sequence[Override]) -> str:
    """What Hydra says, in one sentence, with the nearest keys where a key is unknown."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
            key, path = str(cause.key), str(cause.full_key)
            names = [str(name) for name in cause.parent_node if name != "hydra"]
            if key not in names:
                return f"{path} is not a setting.{nearest(key, names)} Known here: {', '.join(names)}."
        cause = cause.__cause__
    text = " ".join(str(error).split()).rstrip(".")
    given = " ".join(f"{override.input_line}" for override in overrides)
    return f"The overrides {given!r} do not fit the config: {text}."


_EXPECTED = "expected `model:` with the _target_ and its defaults, and `space:` with what is searched of them"


def own_names() -> list[str]:
    """The names of the configs in the user's own folder of models."""
    models = own_models.in_use()
    return sorted(models.configs) if models else []


@contextlib.contextmanager
def own_options() -> Iterator[None]:
    """Let Hydra find each config of the folder, `NAME.yaml`, as the options NAME of `model` and of `space`.

    A file of the checkout is found before one of these. What a config sets besides `space` belongs to the whole config.

    Raises:
        UserError: A config is not valid YAML, or does not say what is expected of it.
    """
    store = ConfigStore.instance()
    before = {group: dict(store.repo.get(group, {})) for group in ("model", "space")}
    try:
        for name in own_names():
            config = _read(name)
            space = config.pop("space", None)
            store.store(name, config, group="model", package="_global_")
            store.store(name, {} if space is None else space, group="space")
        yield
    finally:
        store.repo.update(before)


def _read(name: str) -> DictConfig:
    models = own_models.in_use()
    assert models is not None, "it has configs"
    path = models.folder / f"{name}.yaml"
    try:
        config = OmegaConf.create(models.configs[name])
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(config, DictConfig) or not isinstance(config.get("model"), DictConfig):
        raise UserError(f"{path} is not valid: {_EXPECTED}.")
    return config
