"""Before the first trial: whether every kind of run that the space reaches can be built from what is here."""

from collections.abc import Sequence

from datasets.prepared import PreparedSplit
from datasets.task import Announce, find_task
from models.places import Places
from search.schema import RunConfig
from search.training import build_data, build_model, folds_of, quieten


def check_runs(configs: Sequence[RunConfig], split: PreparedSplit, *, places: Places, announce: Announce) -> None:
    """Build each run's model and data as far as that costs nothing, and fetch what they need.

    Raises:
        UserError: A model refuses its hyperparameters or the task, a sequence is too long, or weights are missing.
    """
    quieten()
    seen = []
    for config in configs:
        model = build_model(config)
        model.check_task(find_task(config.task))
        model.fetch(places, announce)
        needs = (
            config.data.crop,
            config.data.max_length,
            config.data.truncate,
            model.max_residues,
            model.tokenizer.n_tokens,
        )
        if needs not in seen:
            seen.append(needs)
            build_data(config, split, model, folds_of(config, split)[0], 0)
