"""Which trials of a study are better than which."""

import heapq
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import EXCESS_RISE

RISE = "rise_with_mutations"
"""EXCESS_RISE as a constraint, so that the sampler learns of it."""


def rank(value: float, excess_rise: float | None) -> tuple[float, float]:
    """The lower the better: trials that keep to what the protocol asks for by their value, then the others by how far
    they are from it.
    """
    return (max(0.0, excess_rise or 0.0), -value)


def rank_of(trial: FrozenTrial) -> tuple[float, float]:
    """The rank of a complete trial."""
    assert trial.value is not None
    return rank(trial.value, trial.user_attrs.get(EXCESS_RISE))


def best_trials(trials: Sequence[FrozenTrial], n: int) -> list[FrozenTrial]:
    """The `n` best complete trials, the earliest among equals."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return heapq.nsmallest(n, complete, key=lambda trial: (*rank_of(trial), trial.number))


def set_aside(trials: Sequence[FrozenTrial]) -> str | None:
    """What is to be said of complete trials that do not keep to what the protocol asks for; None if all do."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    n = sum(rank_of(trial)[0] > 0 for trial in complete)
    if not n:
        return None
    if n < len(complete):
        return (
            f"Set aside: {n} of {len(complete)} complete trials, whose predictions of test sequences rise with the "
            "number of mutations."
        )
    return (
        f"All {n} complete trials predict more of test sequences the more mutations they have, and are to be doubted: "
        "the best is the one that does so least."
    )
