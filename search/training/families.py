"""Which families of models can tell the variants apart that a protocol judges them by, before anything trains."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict

from datasets.common.errors import CannotRank, UserError
from datasets.splits.prepared import PreparedSplit
from datasets.validation.protocols import Fold, is_most
from models.fitness_model import FitnessModel
from search.checkout import STUDIES
from search.config import targets
from search.config.compose import compose
from search.config.resolve import resolve
from search.config.run_config import RunConfig
from search.options.parser import model_names
from search.training.build import division_of

Judged = tuple[FitnessModel, bool]
"""A model, and whether it sees score columns."""


def check_ranking(config: RunConfig, models: Sequence[Judged], folds: Sequence[Fold], split: PreparedSplit) -> None:
    """Refuse models of one family that would all predict one number for all validation variants of most folds.

    Raises:
        CannotRank: They would; the families that would not are named.
    """
    if can_rank(models, folds, split):
        return
    others = [f"--model {name}" for name, other in _families(config) if can_rank(other, folds, split)]
    raise CannotRank(
        f"{type(models[0][0]).__name__} would predict one number for all validation variants of a fold "
        f"({_shown(config)}): they are mutated at positions where training has no mutation, and of such a position it "
        "knows nothing. "
        + (f"Choose a family that does: {' or '.join(others)}." if others else "No family here can tell them apart.")
    )


def can_rank(models: Sequence[Judged], folds: Sequence[Fold], split: PreparedSplit) -> bool:
    """Whether one of the models can tell the validation variants of folds apart that hold more than half of them."""
    judged = [fold for fold in folds if len(fold.validation)]
    sizes = [len(fold.validation) for fold in judged]
    for model, has_scores in models:
        flat = [
            not model.can_rank(split.residues[fold.validation], split.residues[fold.train], has_scores=has_scores)
            for fold in judged
        ]
        if not judged or not is_most(sizes, flat):
            return True
    return False


def _families(config: RunConfig) -> Iterator[tuple[str, list[Judged]]]:
    """Every `--model` with models of it: its defaults, and each choice of its space changed in them."""
    for name in model_names():
        table = config.table and asdict(config.table)
        embeddings = config.embeddings and asdict(config.embeddings)
        tree = {**compose([f"model={name}"], STUDIES), "task": config.task, "table": table, "embeddings": embeddings}
        seen = tree["model"].get("embeddings")  # whether the family takes any, and sees them unless told to
        if embeddings is None and seen == "alone":
            continue
        if embeddings is not None and seen == "none":
            tree["model"] = {**tree["model"], "embeddings": "both"}
        resolved = resolve(tree, {})
        leaves = (resolved["space"] or {}).get("model", {})
        choices = [(key, leaf["choices"]) for key, leaf in leaves.items() if "choices" in leaf]
        models = [targets.instantiate(resolved["model"], targets.MODEL, "model")]
        for change in ({key: choice} for key, values in choices for choice in values):
            with suppress(UserError):  # one that makes sense with other changes alone
                models.append(targets.instantiate({**resolved["model"], **change}, targets.MODEL, "model"))
        yield name, [(model, config.scores is not None) for model in models]


def _shown(config: RunConfig) -> str:
    return f"{config.task}, validation: {getattr(division_of(config), 'shown', 'its own')}"
