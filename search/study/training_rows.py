"""The rows that an experiment's weights were trained on, and what has to be known of them to predict without them."""

from collections.abc import Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.outside import familiar_of
from datasets.candidates.training_domain import Familiar, Origin
from datasets.splits.prepared import PreparedSplit
from datasets.validation.folds import folds_of_split
from search.config.run_config import RunConfig, task_of
from search.training.length_limit import limit_of


def training_rows(config: RunConfig, split: PreparedSplit, origin: Origin) -> NDArray[np.int64]:
    """Rows of the split: of a search's weights the training parts of all folds, of those of `confirm` all."""
    if origin == "confirm":
        return np.arange(len(split.lengths))
    from search.study.protocol import build_validation  # not before: who only predicts does not wait for Hydra

    folds = folds_of_split(build_validation(config.validation), split, task_of(config))
    return np.unique(np.concatenate([fold.train for fold in folds]))


def familiar_rows(config: RunConfig, split: PreparedSplit, max_residues: int | None) -> Mapping[Origin, Familiar]:
    """What an experiment holds of its training rows."""
    found: dict[Origin, Familiar] = {}
    for origin in get_args(Origin):
        rows = training_rows(config, split, origin)
        found[origin] = familiar_of(
            split.residues[rows],
            split.lengths[rows],
            split.target[rows],
            task=task_of(config),
            crop=config.data.crop,
            limit=limit_of(config, max_residues),
        )
    return found
