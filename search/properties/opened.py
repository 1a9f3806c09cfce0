"""The experiments of several properties, opened together: refused unless one candidate can be asked of all of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit
from datasets.task import Task
from search.config.run_config import task_of
from search.experiments.requirements import check_data
from search.experiments.trained import TrainedExperiment
from search.options.values import Requirement
from search.request.inputs import load_split, places_of
from search.request.suggest_request import SuggestRequest

_LONGEST = 80  # of a name in columns
_TAKEN = "required"  # p_required is the chance to be all that is required


class Where(Protocol):
    """Where data and weights are, of a request."""

    @property
    def data(self) -> Path | None:
        """The table, where it was moved."""

    @property
    def runs_dir(self) -> Path:
        """The runs folder."""

    @property
    def data_dir(self) -> Path | None:
        """Where FLIP's files are looked for first."""

    @property
    def weights_dir(self) -> Path | None:
        """Where pretrained weights are looked for first."""

    @property
    def alignment(self) -> Path | None:
        """The alignment that scores are made of, where it was moved."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """An experiment with its weights, what its property is called in columns, and its rows where they were read."""

    name: str
    trained: TrainedExperiment
    split: PreparedSplit | None = None

    @property
    def units(self) -> str:
        """What is predicted; of a table its target column."""
        return self.trained.task.units

    def is_called(self, name: str) -> bool:
        """Whether somebody means this property: its name in columns, its target column or its experiment's file."""
        return name in (self.name, self.units, self.trained.path.stem, str(self.trained.path))


def open_properties(
    paths: Sequence[Path],
    where: Where,
    announce: Callable[[str], None],
    *,
    has_rows: bool,
    device_for: Callable[[Path], torch.device | None] = lambda path: None,
) -> tuple[Property, ...]:
    """Open the experiments, whose training rows are read too where `has_rows`; `device_for` says on which device each.

    Raises:
        UserError: An experiment, its weights or its data are not what they have to be, or they are of different
            proteins.
    """
    places = places_of(where.weights_dir, where.runs_dir)
    trained = [TrainedExperiment(path, places=places, device=device_for(path), announce=announce) for path in paths]
    for other in trained[1:]:
        _check_same_protein(trained[0], other)
    splits = [_rows(one, where, announce) if has_rows or one.familiar is None else None for one in trained]
    names = property_names(trained)
    return tuple(
        Property(name=name, trained=one, split=split) for name, one, split in zip(names, trained, splits, strict=True)
    )


def property_names(trained: Sequence[TrainedExperiment]) -> list[str]:
    """What stands behind the names of columns: the property, or else its experiment's file, numbered if need be."""
    of_table = [one.task.units if one.config.table is not None else one.path.stem for one in trained]
    for words in (of_table, [one.path.stem for one in trained]):
        names = [re.sub(r"\W+", "_", word).strip("_")[:_LONGEST] or "property" for word in words]
        if len({_TAKEN, *(name.lower() for name in names)}) > len(names):
            return names
    return [f"{name}_{number}" for number, name in enumerate(names, 1)]


def asked(properties: Sequence[Property], require: Sequence[Requirement]) -> dict[int, tuple[float, float]]:
    """By the numbers of the required properties, the least and the largest value that each may have.

    Raises:
        UserError: No property is called so, or several are; its experiment holds no errors, of which chances are made;
            or no value is allowed.
    """
    bounds: dict[int, tuple[float, float]] = {}
    for one in require:
        found = [number for number, own in enumerate(properties) if own.is_called(one.property)]
        if len(found) != 1:
            names = ", ".join(repr(own.name) for own in properties)
            how_many = "no property is" if not found else "several properties are"
            raise UserError(f"--require names {one.property[:60]!r}, as {how_many} called here: expected {names}.")
        (number,) = found
        if (trained := properties[number].trained).calibration is None:
            raise UserError(
                f"--require needs the errors on validated rows, which {trained.path} does not hold: export it with "
                "this version."
            )
        low, high = bounds.get(number, (float("-inf"), float("inf")))
        low, high = (max(low, one.bound), high) if one.sign == ">=" else (low, min(high, one.bound))
        if low > high:
            raise UserError(f"--require asks {properties[number].name} to be {low:g} or more and {high:g} or less.")
        bounds[number] = low, high
    return bounds


def _rows(trained: TrainedExperiment, where: Where, announce: Callable[[str], None]) -> PreparedSplit:
    task = task_of(trained.config, where.data, alignment=where.alignment)
    places = (where.data_dir, where.runs_dir)
    try:
        split = load_split(task, *places, announce, weights_dir=where.weights_dir)
        check_data(trained.path, trained.config, trained.provenance, split)
    except UserError as error:
        if isinstance(where, SuggestRequest):  # a plate leaves out what was measured
            raise
        without = "or leave the distances to it out with --no-distance, which needs no training data"
        if trained.familiar is None:
            without = "this experiment is of an older version, and cannot predict without its training data"
        raise UserError(f"{str(error).removesuffix('.')}; {without}.") from None
    return split


def _check_same_protein(first: TrainedExperiment, other: TrainedExperiment) -> None:
    one, two = first.task, other.task
    if (one.wild_type is None) != (two.wild_type is None):
        without = first if one.wild_type is None else other
        raise UserError(
            f"{first.path} and {other.path} are not known to be of one protein, because {without.path} knows no wild "
            "type: search it with --wild-type FASTA."
        )
    if one.wild_type != two.wild_type:
        differs = "two wild types"
    elif one.wild_type is not None and one.first_position != two.first_position:
        differs = f"wild types whose first residues have the numbers {one.first_position} and {two.first_position}"
    elif (one.aligned_length, one.chains) != (two.aligned_length, two.chains):
        differs = " and ".join(f"sequences that are {_layout(own.task)}" for own in (first, other))
    elif _lengths_differ(first, other):
        differs = "sequences of different lengths"
    else:
        return
    raise UserError(
        f"{first.path} and {other.path} are of {differs}, so that no candidate is one for both: name experiments of "
        "one protein."
    )


def _layout(task: Task) -> str:
    """How the sequences of a task are laid out, in words."""
    if task.chains is not None:
        return f"of the chains {task.chains}" + " with gaps" * (task.aligned_length is not None)
    return "without gaps" if task.aligned_length is None else f"aligned in {task.aligned_length} columns"


def _lengths_differ(first: TrainedExperiment, other: TrainedExperiment) -> bool:
    """Whether no length of a sequence was trained on by both, as far as the experiments know."""
    if first.familiar is None or other.familiar is None or first.config.data.crop != other.config.data.crop:
        return False
    (low, high), (least, most) = first.familiar.lengths, other.familiar.lengths
    return low > most or least > high
