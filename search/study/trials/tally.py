"""What a search asks of its trials after each of them, at a cost that does not grow with their number."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RETRY_OF
from search.study.endings import Retries, is_own_fault
from search.study.ranking import rank_of
from search.study.study import Counts, counts_of
from search.study.trials.window import N_BEST


class Tally:
    """A study's trials by readings, each of which looks at what is new and at what was not finished before.

    For whatever reads a study time after time; who reads it once has `StudySnapshot`.

    Args:
        keep_best: Of how many of the best trials `best` knows at least.

    Attributes:
        trials: All trials, in the order of their numbers. Nobody may change them.
        failed: Those that failed.
        unfinished: Those that run or wait.
        best: The best complete ones, the best first.
        retries: Which trials repeat which.
    """

    def __init__(self, keep_best: int = N_BEST) -> None:
        self._keep_best = max(keep_best, N_BEST)
        self._forget()

    def _forget(self) -> None:
        self.trials: Sequence[FrozenTrial] = ()
        self.failed: list[FrozenTrial] = []
        self.unfinished: list[FrozenTrial] = []
        self.best: list[FrozenTrial] = []
        self.retries = Retries()
        self._open: list[int] = []
        self._states: Counter[TrialState] = Counter()
        self._n_sampled = 0

    def see(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Take the study's trials as they are now; those that are complete, pruned or failed since the last time."""
        n_seen = len(self.trials)
        if len(trials) < n_seen or (n_seen and trials[n_seen - 1].number != self.trials[-1].number):
            self._forget()  # somebody removed trials, or one that began earlier was read later
            n_seen = 0
        ended: list[FrozenTrial] = []
        places, self._open, self.unfinished = [*self._open, *range(n_seen, len(trials))], [], []
        self.trials = trials
        for place in places:
            trial = trials[place]
            self.retries.add(trial)
            if trial.state.is_finished():
                self._end(trial)
                ended.append(trial)
            else:
                self._open.append(place)
                self.unfinished.append(trial)
        return ended

    def _end(self, trial: FrozenTrial) -> None:
        self._states[trial.state] += 1
        self._n_sampled += RETRY_OF not in trial.user_attrs
        if trial.state == TrialState.FAIL:
            self.failed.append(trial)
        elif trial.state == TrialState.COMPLETE and trial.value is not None:
            insort(self.best, trial, key=lambda one: (*rank_of(one), one.number))
            del self.best[self._keep_best :]

    @property
    def counts(self) -> Counts:
        """Trials by state."""
        return counts_of(self._states + Counter(trial.state for trial in self.unfinished))

    @property
    def running(self) -> list[FrozenTrial]:
        """Those that run."""
        return [trial for trial in self.unfinished if trial.state == TrialState.RUNNING]

    @property
    def n_sampled(self) -> int:
        """How many trials were asked of a sampler, or taken from those that a study begins with."""
        return self._n_sampled + sum(RETRY_OF not in trial.user_attrs for trial in self.running)

    @property
    def n_faults(self) -> int:
        """How many trials failed for good, see `search.study.endings.own_faults`."""
        return sum(is_own_fault(trial, self.retries) for trial in self.failed)
