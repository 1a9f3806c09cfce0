"""What a study searches because of what stands beside its sequences: score columns, and embeddings."""

import ast
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import NONE, ScoreConfig
from search.config.nested import lookup
from search.config.static_classes import ancestry, find_class
from search.config.type_checks import shown
from search.machine import own_models

WITH_SCORES = "with_scores"
WITHOUT_SCORES = {"use": "all"}
WITH_EMBEDDINGS = "with_embeddings"
_EMBEDDINGS = "model.embeddings"
_HOOKS, _TAKES = "models.hooks", "take_scores"  # where the method stands that does nothing


def with_scores(given: Any, space: Any, scores: ScoreConfig | None) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The score columns of the run, and its space.

    `given` says which columns the model sees; which ones is searched, together with what the space has below
    `with_scores`: leaves that are searched where the model sees a column.

    Raises:
        UserError: They choose from columns, and there are none; they are not written as they should be.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("use"), str):
        raise UserError(f"scores={shown(given)} is not valid: expected scores.use with a column, all or none.")
    own, section = _apart(space, WITH_SCORES)
    if scores is None:
        if given != WITHOUT_SCORES:
            raise UserError(
                f"scores.use={given['use']} chooses from score columns, and none is named: add --zero-shot-column, "
                "--zero-shot-file, --alignment or --zero-shot, or leave it out."
            )
        return None, own
    use = scores.names[0] if given == WITHOUT_SCORES and len(scores.names) == 1 else given["use"]
    leaf = {"type": "categorical", "choices": scores.choices}
    seen = [*(name for name in scores.choices if name != NONE), *({use} - {*scores.choices})]
    more = merged(own, section, when={"scores.use": seen})
    return {**scores.tree, **given, "use": use}, {"scores": {"use": leaf}, **more}


def takes_scores(target: str) -> bool:
    """Whether a model, by the path of its class, makes room for score columns; what a user's own does is not known."""
    module, _, name = target.rpartition(".")
    source = None if own_models.is_own(target) else find_class(module, name)
    if source is None:
        return True
    families = (one for one in ancestry(source) if one.module != _HOOKS)
    return any(isinstance(part, ast.FunctionDef) and part.name == _TAKES for one in families for part in one.node.body)


def with_embeddings(
    model: Any, space: Any, embeddings: EmbeddingConfig | None, named: Collection[str]
) -> dict[str, Any]:
    """The run's `embeddings`, its `model` and its `space`.

    A family that takes embeddings has a setting `embeddings`: whether the model sees them is searched, with what the
    space has below `with_embeddings`, unless it is among the paths that are `named`. Where there are none, or the
    family takes none, all is as if there was no such setting.

    Raises:
        UserError: The model is to see embeddings, or a setting is about them, and there are none.
    """
    own, section = _apart(space, WITH_EMBEDDINGS)
    setting = model.get("embeddings") if isinstance(model, Mapping) else None
    if setting is None:  # no model, or one that the program refuses later, says nothing either
        return {"embeddings": None, "space": own}
    about = [name for name in model if name == "embeddings" or name.startswith("embedding_")]
    if embeddings is None:
        asked = [name for name in about if f"model.{name}" in named and model[name] != NONE]
        if asked or setting != NONE:
            name = asked[0] if asked else "embeddings"
            raise UserError(
                f"model.{name}={model[name]} is about embeddings, and none are named: add --embeddings FILE, or leave "
                "it out."
            )
        is_own = own_models.is_own(str(model.get("_target_")))  # its settings are its own business
        left = {key: value for key, value in model.items() if is_own or key not in about}
        return {"embeddings": None, "model": left, "space": own}
    residues = section.pop("residues", [])
    if not isinstance(residues, list) or not all(isinstance(name, str) for name in residues):
        raise UserError(f"space.{WITH_EMBEDDINGS}.residues={shown(residues)} is not valid: expected names of settings.")
    if setting == NONE and _EMBEDDINGS not in named:
        model = {**model, "embeddings": "both"}
    for name in residues:  # what is about residues is not searched where embeddings stand alone
        if isinstance(leaf := lookup(own, f"model.{name}", None), Mapping):
            own = merged(own, {"model": {name: leaf}}, when={_EMBEDDINGS: [NONE, "both"]})
    return {"embeddings": asdict(embeddings), "model": model, "space": merged(own, section, when={})}


def trials_to_try(resolved: Mapping[str, Any], searched: Collection[str]) -> Any:
    """The first trials, and after each of them the same without scores, and without embeddings, where there are some.

    `searched` are the paths of the space.
    """
    trees = resolved["first_trials"]
    if not isinstance(trees, list) or not all(
        isinstance(tree, Mapping) and isinstance(tree.get("model", {}), Mapping) for tree in trees
    ):
        return trees  # which the program refuses later
    found = []
    for tree in trees:
        found.append(tree)
        if resolved["scores"] is not None:
            found.append({**tree, "scores": {"use": NONE}})
        if _EMBEDDINGS in searched:
            found.append({**tree, "model": {**tree.get("model", {}), "embeddings": NONE}})
    return found


def merged(tree: Mapping[str, Any], other: Mapping[str, Any], *, when: Mapping[str, Any]) -> dict[str, Any]:
    """Two spaces in one; the leaves of the other one are searched under one more condition.

    What is no part of a space stays as it is: it is refused where the space is made.
    """
    both = dict(tree)
    for key, value in other.items():
        if isinstance(value, Mapping) and not isinstance(value.get("type"), str):
            below = both.get(key, {})
            both[key] = merged(below, value, when=when) if isinstance(below, Mapping) else below
        elif isinstance(value, list):
            both[key] = [_under(leaf, when) for leaf in value]
        else:
            both[key] = _under(value, when)
    return both


def _under(leaf: Any, when: Mapping[str, Any]) -> Any:
    if not isinstance(leaf, Mapping) or not isinstance(leaf.get("when", {}), Mapping):
        return leaf
    return {**leaf, "when": {**leaf.get("when", {}), **when}}


def _apart(space: Any, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The space without a section, and the section."""
    space = {} if space is None else space
    section = (space.get(name) or {}) if isinstance(space, Mapping) else {}
    for path, tree in (("space", space), (f"space.{name}", section)):
        if not isinstance(tree, Mapping):
            raise UserError(f"{path}={shown(tree)} is not valid: expected searched values by their paths.")
    return {key: value for key, value in space.items() if key != name}, dict(section)
