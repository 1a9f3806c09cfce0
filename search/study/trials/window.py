"""Which trials of a long study its sampler and its pruner look at."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.storage.optuna_internals import seen_alone
from search.storage.trial_cache import WithTrials

if TYPE_CHECKING:
    from search.study.trials.tally import Tally

WINDOW = 500
"""So many of the latest trials. What one more costs a sampler grows with the trials that it looks at: linearly for TPE,
with their third power for a Gaussian process. Below this number nothing is left out."""
N_BEST = 25
"""And so many of the best: as many as TPE takes for good ones at most."""


class Windowed(BaseSampler):
    """A sampler that is shown the latest trials of a study and its best.

    For TPE and Gaussian processes, to whom an old trial that is not good says little. Others need all trials, as a grid
    has to know what was tried, or cost nothing.

    Args:
        sampler: Proposes.
        tally: The study's trials, as they are when the sampler is asked.
    """

    def __init__(self, sampler: BaseSampler, tally: "Tally") -> None:
        self._sampler = sampler
        self._tally = tally
        self._view: optuna.Study | None = None

    @staticmethod
    def fits(sampler: BaseSampler, tally: "Tally") -> bool:
        """Whether it is to be shown some of the trials, or all without that it reads them.

        Where others run, and few trials are known, it reads them: what was proposed for these a moment ago counts.
        """
        is_known = len(tally.trials) > WINDOW or not tally.running
        return is_known and isinstance(sampler, TPESampler | GPSampler)

    def _shown(self, study: optuna.Study) -> optuna.Study:
        if self._view is None:
            trials = _window(self._tally)
            self._view = seen_alone(study, lambda storage: WithTrials(storage, trials))
        return self._view

    def reseed_rng(self) -> None:
        """As the sampler's."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler's."""
        return self._sampler.infer_relative_search_space(self._shown(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler's."""
        return self._sampler.sample_relative(self._shown(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler's."""
        return self._sampler.sample_independent(self._shown(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the sampler's."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the sampler's; what was shown to it is let go, as its study and with it a database would refer to this."""
        self._view = None
        self._sampler.after_trial(study, trial, state, values)


def _window(tally: "Tally") -> list[FrozenTrial]:
    """The latest trials, and before them the best and those that are not finished, in the order of their numbers."""
    if len(tally.trials) <= WINDOW:
        return list(tally.trials)
    latest = list(tally.trials[-WINDOW:])
    older = {trial.number: trial for trial in (*tally.best[:N_BEST], *tally.unfinished)}
    return [older[number] for number in sorted(older) if number < latest[0].number] + latest
