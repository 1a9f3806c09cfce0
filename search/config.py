"""Compose the Hydra tree in `studies/` into a checked study: the run, the space, the sampler and the pruner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from datasets.errors import UserError, nearest
from search import targets
from search.annotations import convert, shown
from search.compose import compose, fixed_paths
from search.schema import RUN_KEYS, RunConfig, run_config
from search.space import Scalar, Space, make_space
from search.trees import digest, flatten, lookup, nest

STUDIES = Path(__file__).parent.parent / "studies"
OmegaConf.register_new_resolver("min", min, replace=True)  # for pruners: ${min:3,${trainer.max_epochs}}
_STUDY_KEYS = (*RUN_KEYS, "space", "sampler", "pruner", "first_trials")
_WITHOUT_GROUP: dict[str, Any] = {"space": {}, "logger": None}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: a config, the space over it, and what searches the space.

    `tree` is the composed config with its interpolations, `defaults` the same resolved. `first_trials` are
    parameters to try before the sampler chooses.
    """

    tree: dict[str, Any]
    defaults: dict[str, Any]
    space: Space
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    first_trials: tuple[dict[str, Scalar], ...]

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.defaults["task"])

    @property
    def fixed(self) -> dict[str, Any]:
        """Every value of the run that is not searched and that the result depends on, by path."""
        run = {key: value for key, value in self.defaults.items() if key not in ("task", "logger")}
        run["trainer"] = {key: value for key, value in run["trainer"].items() if key not in _MACHINE_KEYS}
        return {path: value for path, value in flatten(run) if path not in self.space.leaves}

    def run(self, params: Mapping[str, Scalar]) -> RunConfig:
        """The run in which the searched values are `params`."""
        return run_config(_resolve(self.tree, params))


# Where a study runs may change from worker to worker; it is recorded with each trial instead.
_MACHINE_KEYS = ("threads", "accelerator")


def study_config(overrides: Sequence[str], studies: Path = STUDIES) -> StudyConfig:
    """Compose `studies/config.yaml` with Hydra overrides and check everything that can be checked unrun.

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
    for key in composed:
        if key not in _STUDY_KEYS:
            raise UserError(f"{key} is not a setting.{nearest(key, _STUDY_KEYS)} Known: {', '.join(_STUDY_KEYS)}.")
    for key in _STUDY_KEYS:
        if key not in composed:
            raise UserError(f"{key} is missing from the config: every study needs one.")
    tree = {key: composed[key] for key in RUN_KEYS}
    defaults = _resolve(tree, {})
    run_config(defaults)
    resolved = _resolve({key: composed[key] for key in composed if key != "space"}, {})
    space = make_space(composed["space"] or {}, defaults, fixed_paths(overrides, studies))
    study = StudyConfig(
        tree=tree,
        defaults=defaults,
        space=space,
        sampler=targets.check(resolved["sampler"], targets.SAMPLER, "sampler"),
        pruner=targets.check(resolved["pruner"], targets.PRUNER, "pruner"),
        first_trials=_first_trials(resolved["first_trials"], space, defaults),
    )
    _check_reach(study)
    _check_grid(study)
    return study


def _first_trials(
    trees: Sequence[Mapping[str, Any]], space: Space, defaults: Mapping[str, Any]
) -> tuple[dict[str, Scalar], ...]:
    """Those that agree with the space and with what the user fixed, completed; each once."""
    trials: list[dict[str, Scalar]] = []
    known = [path for path, _ in flatten(defaults)]
    for i, tree in enumerate(convert(list[dict[str, Any]], trees, "first_trials")):
        for path, _ in flatten(tree):
            if path not in known:
                raise UserError(f"first_trials[{i}] sets {path}, which is no setting.{nearest(path, known)}")
        params = space.complete(dict(flatten(tree)), defaults)
        if params and params not in trials:
            trials.append(params)
    return tuple(trials)


def _check_reach(study: StudyConfig) -> None:
    """Build the run at the ends of every searched range, so that no trial meets a value that is refused."""
    extremes = {path: leaf.extremes for path, leaf in study.space.leaves.items()}
    for i in range(max(map(len, extremes.values()), default=0)):
        try:
            study.run({path: values[min(i, len(values) - 1)] for path, values in extremes.items()})
        except UserError as error:
            raise UserError(f"The space reaches a value that is not allowed: {error}") from None


def _check_grid(study: StudyConfig) -> None:
    """Compare a grid with the space: Optuna would only notice in the middle of a trial."""
    if "search_space" not in study.sampler:
        return
    grid = convert(dict[str, Any], study.sampler["search_space"], "sampler.search_space")
    study.sampler["search_space"] = grid = dict(flatten(grid))
    for path in [*study.space.leaves, *grid]:
        if path not in grid:
            raise UserError(f"sampler.search_space lacks {path}: name the values of every searched setting.")
        if path not in study.space.leaves:
            raise UserError(f"sampler.search_space names {path}, which is not searched: leave it out.")
        for value in convert(list[Any], grid[path], f"sampler.search_space.{path}"):
            if not study.space.contains(path, value):
                raise UserError(f"sampler.search_space.{path} holds {shown(value)}, which is outside of space.{path}.")


def _resolve(tree: Mapping[str, Any], params: Mapping[str, Scalar]) -> dict[str, Any]:
    config = OmegaConf.merge(OmegaConf.create(dict(tree)), OmegaConf.create(nest(params)))
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given: add {error.full_key}=... to the command.") from None
    except Exception as error:  # OmegaConf's own errors name the key
        raise UserError(f"The config cannot be resolved: {str(error).splitlines()[0]}.") from None
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def config_hash(study: StudyConfig) -> str:
    """SHA-256 of all fixed values."""
    return digest(study.fixed)
