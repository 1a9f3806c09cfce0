"""Which trials of a study are better than which."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

EXCESS_RISE = "excess_rise"
"""User attribute of a trial: `Result.excess_rise`."""
RISE = "rise_with_mutations"
"""The same as a constraint, so that the sampler learns of it."""


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
    return sorted(complete, key=lambda trial: (*rank_of(trial), trial.number))[:n]


def n_set_aside(trials: Sequence[FrozenTrial]) -> int:
    """How many complete trials do not keep to what the protocol asks for."""
    return sum(trial.state == TrialState.COMPLETE and rank_of(trial)[0] > 0 for trial in trials)
