"""The precision of a study's frozen features where it is left to `auto`: chosen once, recorded, the same for all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets.common.errors import UserError
from search.config.nested import lookup, overlay
from search.config.run_config import RunConfig
from search.study.config import StudyConfig
from search.training.precision.chosen import IN_MANIFEST, ChosenPrecision, chosen_precision

PATH = "model.feature_precision"


def is_open(config: StudyConfig) -> bool:
    """Whether the study is still to choose the precision of its frozen features."""
    return lookup(config.tree, PATH, None) == "auto" and PATH not in config.space.paths


def agreed(config: StudyConfig, before: Mapping[str, Any]) -> ChosenPrecision | None:
    """What the study of the manifest `before` chose, if this config leaves it open or says the same.

    So every worker, and every later call, has the features of the first one, whatever its own machine would choose.
    """
    chosen = chosen_precision(before)
    said = lookup(config.tree, PATH, None)
    return chosen if chosen is not None and (is_open(config) or said == chosen.precision) else None


def with_precision(
    config: StudyConfig, about: Mapping[str, Any], chosen: ChosenPrecision | None
) -> tuple[StudyConfig, dict[str, Any]]:
    """The study, and its manifest `about`, with what was chosen; None leaves both as they are."""
    if chosen is None:
        return config, dict(about)
    said = {PATH: chosen.precision}
    config = replace(config, tree=overlay(config.tree, said), defaults=overlay(config.defaults, said))
    return config, {**about, "config": config.fixed, "config_hash": config.hash, IN_MANIFEST: chosen.record}


def check_open(config: StudyConfig, reached: Sequence[RunConfig]) -> None:
    """Refuse trials that would each have to choose: one machine could choose otherwise than another.

    Raises:
        UserError: `auto` is one of several values that the space reaches.
    """
    if not is_open(config) and any(run.model.get("feature_precision") == "auto" for run in reached):
        raise UserError(
            f"{PATH}=auto is chosen once for a whole study, and cannot be searched or follow from what is searched: "
            f"search 32-true and bf16-mixed instead, or add {PATH}=auto to the command."
        )
