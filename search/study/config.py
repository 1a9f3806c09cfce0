"""Compose the Hydra tree in `studies/` into a checked study: the run, the space, the sampler and the pruner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError, nearest
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import ScoreConfig
from datasets.tables.table import Table
from datasets.task import Task
from search.checkout import STUDIES
from search.config import targets
from search.config.compose import compose, fixed_paths
from search.config.nested import Scalar, digest, flatten, lookup
from search.config.resolve import resolve
from search.config.run_config import RUN_KEYS, RunConfig, run_config, task_in
from search.space.first_trials import first_trials
from search.space.parse import make_space
from search.space.space import Space, with_grid
from search.study.beside import trials_to_try, with_embeddings, with_scores

_STUDY_KEYS = (*RUN_KEYS, "space", "sampler", "pruner", "first_trials")
EPOCH_SETTINGS = ("trainer.max_epochs", "trainer.patience")
"""What means nothing to a model that is solved at once."""
_WITHOUT_GROUP: dict[str, Any] = {"space": {}, "logger": None}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: a config, the space over it, and what searches the space.

    `tree` is the composed config with its interpolations, `defaults` the same resolved; `derived` are the values
    that follow from searched ones, by path, as they stand in `tree`. `first_trials` are parameters to try before
    the sampler chooses. `unrecorded` are paths of settings that an existing study began without.
    """

    tree: dict[str, Any]
    defaults: dict[str, Any]
    derived: dict[str, Any]
    space: Space
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    first_trials: tuple[dict[str, Scalar], ...]
    unrecorded: frozenset[str] = frozenset()

    @property
    def is_exact(self) -> bool:
        """Whether the model is solved at once, so that there are no epochs to speak of."""
        return targets.is_exact(self.defaults["model"])

    @property
    def shown_defaults(self) -> dict[str, Any]:
        """The defaults for people: without what means nothing to this model."""
        return _without_epochs(self.defaults) if self.is_exact else self.defaults

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.defaults["task"])

    def find_task(self) -> Task:
        """The task itself."""
        return task_in(self.defaults)

    @property
    def fixed(self) -> dict[str, Any]:
        """Every value of the run that is not searched in all trials and that a result may depend on, by path."""
        others = ("task", "table", "scores", "embeddings", "logger", "cache")
        run = {key: value for key, value in self.defaults.items() if key not in others}
        if self.defaults["scores"] is not None:
            run["scores"] = {"use": self.defaults["scores"]["use"]}
        run["trainer"] = {key: value for key, value in run["trainer"].items() if key not in MACHINE_KEYS}
        searched = {*self.space.always_searched, *self.unrecorded}
        return {path: self.derived.get(path, value) for path, value in flatten(run) if path not in searched}

    @property
    def hash(self) -> str:
        """SHA-256 of all fixed values."""
        return digest(self.fixed)

    @cached_property
    def epochs_per_fold(self) -> int:
        """The most epochs that a fold of any trial may have."""
        path = "trainer.max_epochs"
        if path not in self.space.paths and path not in self.derived:
            return int(self.defaults["trainer"]["max_epochs"])
        return max(self.run(corner).trainer.max_epochs for corner in self.space.corners(self.defaults))

    def run(self, params: Mapping[str, Scalar]) -> RunConfig:
        """The run of a trial with these parameters; their values by path do as well."""
        return run_config(resolve(self.tree, self.space.values(params)))


# Where a study runs may change from worker to worker; it is recorded with each trial instead.
MACHINE_KEYS = ("threads", "accelerator", "micro_batch_tokens")


def study_config(
    overrides: Sequence[str],
    studies: Path = STUDIES,
    *,
    table: Table | None = None,
    scores: ScoreConfig | None = None,
    embeddings: EmbeddingConfig | None = None,
    solves_once: bool = True,
) -> StudyConfig:
    """Compose `studies/config.yaml` with Hydra overrides and check everything that can be checked unrun.

    `table` is what the task is read from where that is a user's own data, `scores` its score columns and `embeddings`
    those of its sequences, whose use is searched unless an override says it; a family that takes no embeddings has
    none. A model that is solved at once gets one epoch, whatever is set or searched; with `solves_once` False it gets
    what the overrides say, as in studies of earlier versions.

    Raises:
        UserError: An override, a setting, a class or the space is not valid; the task is unknown.
    """
    composed = compose(overrides, studies)
    if "provenance" in composed or lookup(composed, "experiment.provenance", None):
        raise UserError(
            "A frozen experiment is loaded as a whole, not merged into a config: use `train --experiment FILE`."
        )
    if "experiment" in composed:
        raise UserError(
            "The file of the experiment group does not say where its settings belong: "
            "let its first line be `# @package _global_`."
        )
    # A group that was taken out, as in `~space` or `logger=null`, leaves no key.
    composed = {**_WITHOUT_GROUP, **composed}
    if "table" in composed:
        raise UserError("A table is not described by overrides: name its file with --data FILE.")
    composed["table"] = table and asdict(table)
    if "embeddings" in composed:
        raise UserError("Embeddings are not described by overrides: name their file with --embeddings FILE.")
    composed["scores"], composed["space"] = with_scores(composed.get("scores"), composed["space"], scores)
    named = fixed_paths(overrides, studies)
    composed |= with_embeddings(composed.get("model"), composed["space"], embeddings, named)
    for key in composed:
        if key not in _STUDY_KEYS:
            raise UserError(f"{key} is not a setting.{nearest(key, _STUDY_KEYS)} Known: {', '.join(_STUDY_KEYS)}.")
    for key in _STUDY_KEYS:
        if key not in composed:
            raise UserError(f"{key} is missing from the config: every study needs one.")
    tree = {key: composed[key] for key in RUN_KEYS}
    defaults = resolve(tree, {})
    run_config(defaults)
    if solves_once and targets.is_exact(defaults["model"]):
        composed["trainer"] = tree["trainer"] = {**tree["trainer"], "max_epochs": 1}
        composed["space"] = _without_epochs(composed["space"])
        defaults = resolve(tree, {})
    resolved = resolve({key: composed[key] for key in composed if key != "space"}, {})
    searched = resolve({**tree, "space": composed["space"] or {}}, {})["space"]
    space = space_over(tree, defaults, searched, named)
    return StudyConfig(
        tree=tree,
        defaults=defaults,
        derived=values_that_follow(tree, defaults, space),
        space=space,
        sampler=with_grid(targets.check(resolved["sampler"], targets.SAMPLER, "sampler"), space),
        pruner=targets.check(resolved["pruner"], targets.PRUNER, "pruner"),
        first_trials=first_trials(trials_to_try(resolved, space.paths), space, tree, defaults),
    )


def space_over(
    tree: Mapping[str, Any], defaults: Mapping[str, Any], searched: Mapping[str, Any], fixed: Sequence[str]
) -> Space:
    """The checked space of a config; see `search.space.parse.make_space`."""
    interpolated = {path for path, value in flatten(defaults) if lookup(tree, path, None) != value}
    return make_space(searched, defaults, fixed, interpolated, _options(tree))


def _without_epochs(tree: Any) -> Any:
    """A config, or a space, without what means nothing to a model that is solved at once."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("trainer"), Mapping):
        return tree
    rest = {key: value for key, value in tree["trainer"].items() if f"trainer.{key}" not in EPOCH_SETTINGS}
    others = {key: value for key, value in tree.items() if key != "trainer"}
    return {**others, "trainer": rest} if rest else others


def _options(tree: Mapping[str, Any]) -> Callable[[str, Any], bool]:
    """Tells whether a value is one of a few words that the config allows at a path."""

    @cache
    def is_allowed(path: str, value: str) -> bool:
        try:
            run_config(resolve(tree, {path: value}))
        except UserError:
            return False
        return True

    return lambda path, value: isinstance(value, str) and is_allowed(path, value) and not is_allowed(path, "no option")


def values_that_follow(tree: Mapping[str, Any], defaults: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Build the run at the corners of the space, so that no trial meets a value that is refused.

    Returns the values that follow from searched ones: those that are not the same everywhere, by path.
    """
    derived: dict[str, Any] = {}
    for corner in space.corners(defaults):
        try:
            resolved = resolve(tree, corner)
            run_config(resolved)
        except UserError as error:
            raise UserError(f"The space reaches a value that is not allowed: {error}") from None
        for path, value in flatten(defaults):
            if path not in corner and lookup(resolved, path, None) != value:
                derived[path] = lookup(tree, path, value)
    return derived
