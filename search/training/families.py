"""Which families of models can tell the variants apart that a protocol judges them by, before anything trains."""

import importlib
from collections.abc import Iterator, Sequence

import yaml

from datasets.common.errors import CannotRank
from datasets.splits.prepared import PreparedSplit
from datasets.validation.protocols import Fold, is_most
from models.fitness_model import FitnessModel
from search.checkout import STUDIES
from search.config.run_config import RunConfig
from search.options.parser import model_names
from search.training.build import division_of


def check_ranking(config: RunConfig, family: type[FitnessModel], folds: Sequence[Fold], split: PreparedSplit) -> None:
    """Refuse a family that would predict one number for all validation variants of most folds.

    Raises:
        CannotRank: It would; the families that would not are named.
    """
    if can_rank(family, folds, split):
        return
    others = [f"--model {name}" for name, other in _families() if can_rank(other, folds, split)]
    raise CannotRank(
        f"{family.__name__} would predict one number for all validation variants of a fold ({_shown(config)}): they "
        "are mutated at positions where training has no mutation, and of such a position it knows nothing. "
        + (f"Choose a family that does: {' or '.join(others)}." if others else "No family here can tell them apart.")
    )


def can_rank(family: type[FitnessModel], folds: Sequence[Fold], split: PreparedSplit) -> bool:
    """Whether the family can tell the validation variants of folds apart that hold more than half of them."""
    judged = [fold for fold in folds if len(fold.validation)]
    flat = [not family.can_rank(split.residues[fold.validation], split.residues[fold.train]) for fold in judged]
    return not judged or not is_most([len(fold.validation) for fold in judged], flat)


def _families() -> Iterator[tuple[str, type[FitnessModel]]]:
    """Every `--model` that names a class of its own, with that class."""
    for name in model_names():
        tree = yaml.safe_load((STUDIES / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
        module, _, cls = str(tree.get("model", tree).get("_target_", "")).rpartition(".")
        if module:
            yield name, getattr(importlib.import_module(module), cls)


def _shown(config: RunConfig) -> str:
    return f"{config.task}, validation: {getattr(division_of(config), 'shown', 'its own')}"
