"""Before the first trial: whether every kind of run that the space reaches can be built from what is here.

And whether its model can tell the variants apart that a protocol judges it by.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import yaml

from datasets.common.errors import CannotRank, UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from datasets.validation.protocols import Fold, is_most
from models.fitness_model import FitnessModel
from models.losses import is_pairwise
from search.checkout import STUDIES
from search.config.run_config import RunConfig, task_of
from search.options.parser import model_names
from search.training.build import build_data, build_model, division_of, folds_of
from search.training.memory import is_out_of_memory
from search.training.trainer import quieten


def check_builds(
    configs: Sequence[RunConfig], split: PreparedSplit, *, places: Places, announce: Announce
) -> tuple[tuple[str | None, str | None], ...]:
    """Build each run's model and data as far as that costs little, and fetch what they need.

    Returns:
        Name and hash of each run's pretrained weights.

    Raises:
        UserError: A model refuses its hyperparameters, the loss or the task, batches have no pairs for the loss, a
            sequence is too long, or weights are missing.
        CannotRank: All predictions by which a model is judged would be the same.
    """
    quieten()
    backbones = []
    seen = []
    ranked: set[tuple[type[FitnessModel], str]] = set()
    for config in configs:
        model = _build(config)
        if is_pairwise(model.loss) and config.data.batch_size < 2:
            raise UserError(
                f"data.batch_size={config.data.batch_size} leaves trainer.loss={config.trainer.loss} no pairs of rows: "
                "use batches of at least 2."
            )
        model.check_task(task_of(config))
        model.fetch(places, announce)
        backbones.append((model.weights_name, model.backbone_hash))
        if (about := (type(model), str(config.validation))) not in ranked:
            ranked.add(about)
            check_ranking(config, type(model), folds_of(config, split), split)
        data = replace(config.data, batch_size=1)
        if (data, model.max_residues, model.tokenizer.n_tokens) not in seen:
            seen.append((data, model.max_residues, model.tokenizer.n_tokens))
            largest = max(folds_of(config, split), key=lambda fold: len(fold.train))
            build_data(config, split, model, largest, 0)
    return tuple(backbones)


def _build(config: RunConfig) -> FitnessModel:
    try:
        return build_model(config)
    except (RuntimeError, MemoryError, OverflowError) as error:
        # Sizes whose product no memory holds, or no number of a C library.
        if not (is_out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error)):
            raise
        raise UserError(
            f"{config.model['_target_']} cannot be built with these hyperparameters "
            f"({' '.join(str(error).split())[:200]}): choose smaller ones."
        ) from None


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
