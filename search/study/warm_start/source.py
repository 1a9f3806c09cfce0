"""An earlier study, or an experiment, as far as another study may begin with its configurations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Study

from datasets.common.errors import UserError
from search.config.nested import Scalar
from search.space.space import Space
from search.storage.attributes import MANIFEST
from search.study.ranking import best_trials
from search.study.study import study_id

N_BEST = 5
"""Of how many of the best complete trials of an earlier study the configurations are tried."""
_INTERPOLATION = "${"  # of a value that follows from others in each trial


@dataclass(frozen=True, kw_only=True)
class ChosenOn:
    """Data on which a study chose its trials: those of a task with this hash.

    `study` and `study_id` say whose choice it was; the hash is that of the split's table, test rows included.
    """

    study: str
    study_id: str | None
    task: str
    data_hash: str


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A trial that ended well; `values` are those of its settings by path, searched or fixed, as far as known."""

    study: str
    trial: int
    value: float
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """What another study may begin with.

    Args:
        name: As the command named it: a study, or an experiment's file.
        model: The family, by the study's name for it.
        selections: Where its trials were chosen: by itself, and by the studies that it began with in turn.
        configurations: The best ones, the best first.
    """

    name: str
    model: str | None
    selections: tuple[ChosenOn, ...]
    configurations: tuple[Configuration, ...]


def source_of_study(study: Study) -> Predecessor:
    """A study of the database.

    Raises:
        UserError: It has no manifest, or no complete trial.
    """
    name, about = study.study_name, study.user_attrs.get(MANIFEST)
    if about is None:
        raise UserError(f"Study {name!r} has no manifest, so nobody knows what it is about: name another.")
    best = best_trials(study.get_trials(deepcopy=False), N_BEST)
    if not best:
        raise UserError(f"Study {name!r} has no complete trial to begin with: name another, or leave it out.")
    fixed = known_values(about["config"])
    own = ChosenOn(study=name, study_id=study_id(study), task=about["task"], data_hash=about["data_hash"])
    return Predecessor(
        name=name,
        model=about["model"],
        selections=(own, *earlier_selections(about.get("warm_start"))),
        configurations=tuple(
            Configuration(
                study=name, trial=trial.number, value=float(trial.value or 0.0), values=fixed | values(trial.params)
            )
            for trial in best
        ),
    )


def values(params: Mapping[str, Scalar]) -> dict[str, Any]:
    """The values of a trial's parameters by path."""
    return Space.values(params)


def known_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recorded config by path, without those that follow from others in each trial."""
    return {path: value for path, value in config.items() if not (isinstance(value, str) and _INTERPOLATION in value)}


def earlier_selections(record: Mapping[str, Any] | None) -> tuple[ChosenOn, ...]:
    """The selections that a warm start's record names, as it stands in manifests and experiments; none without one."""
    if record is None:
        return ()
    keys = ("study", "study_id", "task", "data_hash")
    return tuple(ChosenOn(**{key: one[key] for key in keys}) for one in record["selections"])
