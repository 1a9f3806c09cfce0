"""Which random numbers a sampler begins with for one trial: those of no other trial, whatever seed its config names."""

from collections.abc import Mapping
from typing import Any

from datasets.common.seeds import derive_seed
from search.config.allowed_classes import ARGUMENTS

_OPTUNAS = "optuna.samplers."
_QMC = "QMCSampler"
_OF_ONE_ORDER = ("GridSampler", _QMC)
"""They go through one order of points, which their seed names, and note of a trial where it is in that order."""
_OF_ONE_SEED = ("BruteForceSampler", *_OF_ONE_ORDER)
"""A seed that is given is that of all their trials: what is left to try they see from the trials."""


def seeded(sampler: Mapping[str, Any], study_seed: int, n_sampled: int) -> dict[str, Any]:
    """The config of a sampler for the trial after `n_sampled` others, with a seed in it and in those that it holds.

    A sampler is made anew for each trial, so that the seed that a user gives, or the study's where there is none, would
    otherwise give all of them the same numbers.
    """
    tree: dict[str, Any] = {
        key: seeded(value, derive_seed(key, study_seed), n_sampled)
        if isinstance(value, Mapping) and "_target_" in value
        else value
        for key, value in sampler.items()
    }
    name = str(tree["_target_"]).rpartition(".")[2]
    if "seed" not in ARGUMENTS.get(_OPTUNAS + name, ()):
        return tree
    given = tree.get("seed")
    if given is None and name in _OF_ONE_ORDER:
        # One seed for all trials: with another one the same place in the order is another point.
        given = tree["seed"] = derive_seed("sampler", study_seed, 0) % 2**32
    own = derive_seed("sampler", study_seed if given is None else int(given), n_sampled) % 2**32
    if given is None or name not in _OF_ONE_SEED:
        tree["seed"] = own
    if name == _QMC and n_sampled and tree.get("independent_sampler") is None:
        # Optuna's own has the sequence's seed, and draws the same for what the first trial lacked each time.
        tree["independent_sampler"] = {"_target_": _OPTUNAS + "RandomSampler", "seed": own}
    return tree
