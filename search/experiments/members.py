"""Experiments with members: several experiments of one question, whose predictions are averaged with weights.

In the file `members` is a list of complete experiments with their shares, and `provenance` is that of the ensemble. A
member's predictions are standardised by the mean and the deviation of what it predicts of test sequences, whose targets
are not read (`search.experiments.reference`), averaged with the weights, and mapped to the assay's unit by a straight
line, `intercept` and `slope` (`search.experiments.scales`). All numbers stand in the file, so that any number of
candidates can be predicted in blocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from datasets.common.errors import UserError
from models.bounds import Interval, PositiveInt
from search.config.type_checks import Text, build, check_keys, shown
from search.experiments.texts import check_shown

if TYPE_CHECKING:
    from search.experiments.experiment import Experiment

MEMBERS = "members"
ENSEMBLE_VERSION, OWN_SCALE_VERSION = ENSEMBLE_VERSIONS = (7, 8)
"""The `schema_version` of files with members; those without any keep the version that they had before.

It says what the line is: the least squares of the out-of-fold targets, or the mean of the members' own scales.
"""
MOST_MEMBERS = 64
"""In a file."""
StudyId = Annotated[str, Text(r"[0-9a-f]{32}", "32 hexadecimal digits")]
_EXPERIMENT = "experiment"
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Share:
    """What an ensemble makes of a member's predictions.

    weight: all of them add up to 1, and none is so small that rounding loses it. mean, deviation: by which its
    predictions are standardised, in the assay's unit.
    """

    weight: Annotated[float, Interval(ge=_ROUNDING, le=1)]
    mean: float
    deviation: Annotated[float, Interval(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A complete experiment and its share."""

    experiment: "Experiment"
    share: Share

    @property
    def words(self) -> str:
        """`trial 7 of study gb1_two_vs_rest-ridge`."""
        return f"trial {self.experiment.provenance.trial} of study {self.experiment.provenance.study}"


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where an ensemble's numbers come from: the `provenance` of a file with members.

    studies, study_ids: those that were combined, also where no member is of them; see `Provenance`. n_candidates: the
    configurations that members were selected from. value: the out-of-bag validation Spearman, which is corrected for
    the selection (`search.stats.greedy_selection`), of `n_sequences` sequences. intercept, slope: from the average of
    standardised predictions to the assay's unit.
    """

    schema_version: int
    studies: list[str]
    study_ids: list[StudyId | None]
    n_candidates: PositiveInt
    date: str
    value: Annotated[float, Interval(ge=-1, le=1)]
    n_sequences: PositiveInt
    intercept: float
    slope: Annotated[float, Interval(gt=0)]
    git_commit: str | None

    @property
    def is_own_scale(self) -> bool:
        """Whether the line is that of the members' own scales."""
        return self.schema_version == OWN_SCALE_VERSION


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The members of an experiment, the one with the largest weight first.

    Raises:
        UserError: They are too many, or do not belong together.
    """

    members: tuple[Member, ...]
    origins: Origins

    def __post_init__(self) -> None:
        """Refuse what could not be averaged, whoever wrote it."""
        if not 1 <= len(self.members) <= MOST_MEMBERS:
            raise UserError(f"It has {len(self.members):,} members: expected 1 to {MOST_MEMBERS}.")
        total = sum(member.share.weight for member in self.members)
        if abs(total - 1) > _ROUNDING:
            raise UserError(f"The weights of its members add up to {total:.6g}: expected 1.")
        if len(self.origins.studies) != len(self.origins.study_ids):
            raise UserError("provenance.studies and provenance.study_ids differ in their number of studies.")
        first = self.members[0]
        if len({config.hash for one in self.members if (config := one.experiment.config.embeddings) is not None}) > 1:
            raise UserError("Its members were trained with different files of embeddings: members are of one question.")
        seen = set()
        for number, member in enumerate(self.members):
            for what, own, other in zip(_SHARED, question_of(member), question_of(first), strict=True):
                if own != other:
                    raise UserError(
                        f"Member {number} ({member.words}) has another {what} than member 0 ({first.words}): members "
                        "are of one question."
                    )
            provenance = member.experiment.provenance
            which = (provenance.study_id or provenance.study, provenance.trial)
            if which in seen:
                raise UserError(f"Member {number} ({member.words}) stands there twice: expected one of each.")
            seen.add(which)

    @cached_property
    def n_models(self) -> tuple[int, ...]:
        """How many models the search left of each member, one for each fold."""
        return tuple(len(member.experiment.provenance.values) for member in self.members)

    def is_same_as(self, other: "Ensemble", is_same: "Callable[[Experiment, Experiment], bool]") -> bool:
        """Whether another one has the same members and numbers, whenever and from whichever commit it was written."""
        own = replace(self.origins, date=other.origins.date, git_commit=other.origins.git_commit)
        return (
            own == other.origins
            and [one.share for one in self.members] == [one.share for one in other.members]
            and all(is_same(a.experiment, b.experiment) for a, b in zip(self.members, other.members, strict=True))
        )


_SHARED = ("task", "table", "source of scores", "data_hash", "validation")
"""What `question_of` returns, in words."""


def question_of(member: Member) -> tuple[Any, ...]:
    """What all members have in common."""
    config, provenance = member.experiment.config, member.experiment.provenance
    return (
        config.task,
        None if config.table is None else config.table.settings,
        None if config.scores is None else config.scores.settings,
        provenance.data_hash,
        config.validation,
    )


def member_path(path: Path, number: int) -> Path:
    """The path by which the files of a member of the experiment at `path` are named, as if it had a file of its own."""
    return path.parent / path.stem / f"member{number}.yaml"


def part_paths(path: Path, experiment: "Experiment") -> tuple[Path, ...]:
    """For each of `experiment.parts` the path by which its files are named."""
    if experiment.ensemble is None:
        return (path,)
    return tuple(member_path(path, number) for number in range(len(experiment.ensemble.members)))


def part_names(path: Path, experiment: "Experiment") -> tuple[str, ...]:
    """For each of `experiment.parts` what sentences call it."""
    if experiment.ensemble is None:
        return (str(path),)
    return tuple(f"{path}: {MEMBERS}[{number}]" for number in range(len(experiment.ensemble.members)))


def mapping_of(value: Any, where: str) -> Mapping[str, Any]:
    """The value, if it is a mapping. What it holds is not looked at, so that each place is named in its own sentence.

    Raises:
        UserError: It is none.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{where}={shown(value)} is not valid: expected a mapping.")
    return value


def tree_of(ensemble: Ensemble, tree_of_experiment: Callable[["Experiment"], Mapping[str, Any]]) -> dict[str, Any]:
    """The ensemble as a tree of plain values."""
    members = [{**asdict(one.share), _EXPERIMENT: tree_of_experiment(one.experiment)} for one in ensemble.members]
    return {MEMBERS: members, "provenance": asdict(ensemble.origins)}


def ensemble_of(
    tree: Mapping[str, Any], origins: Mapping[str, Any], read: Callable[[Mapping[str, Any], str], "Experiment"]
) -> Ensemble:
    """The ensemble of a tree without its `provenance`, which is `origins`.

    `read` makes a checked experiment of a member's tree, at a place that is given in words.

    Raises:
        UserError: A value is missing, unknown, or not what it can be.
    """
    check_keys(tree, (MEMBERS,), (MEMBERS,), "config")
    found = tree[MEMBERS]
    if not isinstance(found, list):
        raise UserError(f"{MEMBERS}={shown(found)} is not valid: expected a list of mappings.")
    if not 1 <= len(found) <= MOST_MEMBERS:
        raise UserError(f"{MEMBERS} is a list of {len(found):,}: expected 1 to {MOST_MEMBERS}.")
    check_shown(origins, "provenance")
    members = []
    for number, item in enumerate(found):
        where = f"{MEMBERS}[{number}]"
        one = mapping_of(item, where)
        share = build(Share, {key: value for key, value in one.items() if key != _EXPERIMENT}, where)
        own = mapping_of(one.get(_EXPERIMENT), f"{where}.{_EXPERIMENT}")
        members.append(Member(experiment=read(own, where), share=share))
    return Ensemble(members=tuple(members), origins=build(Origins, origins, "provenance"))
