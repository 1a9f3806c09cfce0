"""What a study searches because of what stands beside its sequences: score columns, and embeddings."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import NONE, ScoreConfig
from search.machine import own_models

WITH_SCORES = "with_scores"
WITHOUT_SCORES = {"use": "all"}
WITH_EMBEDDINGS = "with_embeddings"
_EMBEDDINGS = "model.embeddings"


def with_scores(
    given: Mapping[str, Any], space: Mapping[str, Any], scores: ScoreConfig | None
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The score columns of the run, and its space.

    `given` says which columns the model sees; which ones is searched, together with what the space has below
    `with_scores`: leaves that are searched where the model sees a column.
    """
    own = {key: value for key, value in (space or {}).items() if key != WITH_SCORES}
    if scores is None:
        if given != WITHOUT_SCORES:
            raise UserError(
                f"scores.use={given.get('use')} chooses from score columns, and none is named: add --zero-shot-column, "
                "--zero-shot-file, --alignment or --zero-shot, or leave it out."
            )
        return None, own
    use = scores.names[0] if given == WITHOUT_SCORES and len(scores.names) == 1 else given["use"]
    leaf = {"type": "categorical", "choices": scores.choices}
    seen = [*(name for name in scores.choices if name != NONE), *({use} - {*scores.choices})]
    more = merged(own, (space or {}).get(WITH_SCORES) or {}, when={"scores.use": seen})
    return {**scores.tree, **given, "use": use}, {"scores": {"use": leaf}, **more}


def with_embeddings(
    model: Any, space: Mapping[str, Any], embeddings: EmbeddingConfig | None, named: Collection[str]
) -> dict[str, Any]:
    """The run's `embeddings`, its `model` and its `space`.

    A family that takes embeddings has a setting `embeddings`: whether the model sees them is searched, with what the
    space has below `with_embeddings`, unless it is among the paths that are `named`. Where there are none, or the
    family takes none, all is as if there was no such setting.

    Raises:
        UserError: The model is to see embeddings, or a setting is about them, and there are none.
    """
    section = dict((space or {}).get(WITH_EMBEDDINGS) or {})
    own = {key: value for key, value in (space or {}).items() if key != WITH_EMBEDDINGS}
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
    if setting == NONE and _EMBEDDINGS not in named:
        model = {**model, "embeddings": "both"}
    for name in residues:  # what is about residues is not searched where embeddings stand alone
        if isinstance(leaf := own.get("model", {}).get(name), Mapping):
            own = merged(own, {"model": {name: leaf}}, when={_EMBEDDINGS: [NONE, "both"]})
    return {"embeddings": asdict(embeddings), "model": model, "space": merged(own, section, when={})}


def trials_to_try(resolved: Mapping[str, Any], searched: Collection[str]) -> Any:
    """The first trials, and after each of them the same without scores, and without embeddings, where there are some.

    `searched` are the paths of the space.
    """
    trees = resolved["first_trials"]
    if not isinstance(trees, list) or not all(isinstance(tree, Mapping) for tree in trees):
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
    """Two spaces in one; the leaves of the other one are searched under one more condition."""
    both = dict(tree)
    for key, value in other.items():
        if isinstance(value, Mapping) and not isinstance(value.get("type"), str):
            both[key] = merged(both.get(key, {}), value, when=when)
        else:
            leaves = value if isinstance(value, list) else [value]
            leaves = [{**leaf, "when": {**leaf.get("when", {}), **when}} for leaf in leaves]
            both[key] = leaves if isinstance(value, list) else leaves[0]
    return both
