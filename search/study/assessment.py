"""Confidence interval, selection bias and indistinguishable trials of a study's best value.

It is found from what the complete trials predicted for their validation sequences, as their folders hold it. To take
less than a second it looks at the best 100 trials, and of more than 2,000 sequences at a random 2,000, always the same.
Pruned trials have no such predictions; that they were candidates too is not corrected for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from search.stats.intervals import ConfidenceInterval, Floats, interval_from_size
from search.stats.selection_bias import ComparedTrials
from search.storage.attributes import PROTOCOL
from search.study.ranking import best_trials, rank_of
from search.training.predictions import Predictions, read_predictions

MAX_TRIALS = 100
MAX_SEQUENCES = 2000
_SEED = 20210704
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What the value of a study's best trial is worth.

    Attributes:
        trial: the best one's number.
        interval: 95 % for its true validation Spearman, corrected for its having been picked; None if not even the
            number of sequences is known.
        optimism: by how much the value is expected to lie above the truth for having been picked, in units of
            Spearman; None if it can't be said.
        indistinguishable: numbers of the other trials that may be as good as the best or better, the best first.
        n_candidates: the complete trials among which the best was picked by its value.
        n_compared: how many of them were compared by their predictions, the best one included; 0 if its own are not
            at hand. The noise of those that are missing counts as independent of all other, which widens the interval.
        n_missing: how many of them should have been compared and could not.
    """

    trial: int
    interval: ConfidenceInterval | None
    optimism: float | None
    indistinguishable: tuple[int, ...]
    n_candidates: int
    n_compared: int
    n_missing: int

    @property
    def sentences(self) -> tuple[str, ...]:
        """What people read of it."""
        if self.interval is None:
            return (f"How sure that is cannot be said: the predictions of trial {self.trial} are not on this machine.",)
        picked = f", corrected for picking the best of {self.n_candidates}" if self.n_candidates > 1 else ""
        sentences = [f"95 % interval: {self.interval.low:.2f} to {self.interval.high:.2f}{picked}"]
        if self.n_compared == 0:
            sentences[0] += "; approximate and too wide, because the predictions are not on this machine"
        elif self.n_missing:
            sentences[0] += f"; wider than necessary, because the predictions of {self.n_missing} trials are not here"
        if self.n_compared > 1 and self.optimism is not None:
            sentences.append(f"Expected optimism of the pick: {self.optimism:.2f}")
            sentences.append(self._peers)
        return tuple(sentences)

    @property
    def _peers(self) -> str:
        n = len(self.indistinguishable)
        if n == 0:
            return "Every other trial is worse by more than chance explains."
        named = ", ".join(map(str, self.indistinguishable[:_MOST_NAMED]))
        more = f" and {n - _MOST_NAMED} more" if n > _MOST_NAMED else ""
        return f"Cannot be told apart from it: {n} {'trial' if n == 1 else 'trials'} ({named}{more})"


def assess(study: Study, study_folder: Path) -> Assessment | None:
    """The assessment of a study's best trial, whose files are in folders below `study_folder`.

    None if no trial is complete.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ordered = best_trials(trials, len(trials))
    if not ordered:
        return None
    rivals = _rivals(ordered)
    compared = rivals[:MAX_TRIALS]
    found = {trial.number: read_predictions(study_folder, trial.number) for trial in compared}
    n_sequences = study.user_attrs.get(PROTOCOL, {}).get("n_sequences")
    return _assess(compared, found, len(rivals), n_sequences)


def compared_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of a study's trials whose predictions `assess` looks at, the best first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return _rivals(best_trials(complete, len(complete)))[:MAX_TRIALS]


def _rivals(ordered: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those among which the best was picked: who was set aside was not, whatever its value."""
    return [trial for trial in ordered if rank_of(trial)[0] == rank_of(ordered[0])[0]]


def _assess(
    trials: Sequence[FrozenTrial], found: dict[int, Predictions | None], n_candidates: int, n_sequences: int | None
) -> Assessment:
    best, of_best = trials[0], found[trials[0].number]
    target = None if of_best is None else _some(of_best.target)
    if of_best is None or target is None or not _is_telling(target) or not _is_telling(_some(of_best.prediction)):
        assert best.value is not None
        interval = None
        if n_sequences is not None:
            interval = interval_from_size(best.value, n_sequences, n_trials=n_candidates)
        return Assessment(
            trial=best.number,
            interval=interval,
            optimism=None,
            indistinguishable=(),
            n_candidates=n_candidates,
            n_compared=0,
            n_missing=len(trials),
        )
    known, predictions = [], []
    for trial in trials:
        own = found[trial.number]
        if own is not None and np.array_equal(own.row, of_best.row) and _is_telling(_some(own.prediction)):
            known.append(trial)
            predictions.append(_some(own.prediction))
    n_missing = len(trials) - len(known)
    candidates = ComparedTrials(
        values=np.array([trial.value for trial in known]),
        predictions=np.stack(predictions),
        target=target,
        n=len(of_best.row),
        n_unseen=n_missing,
    )
    optimism = candidates.optimism()
    peers = [trial.number for trial, is_in in zip(known, candidates.is_indistinguishable(), strict=True) if is_in]
    return Assessment(
        trial=best.number,
        interval=candidates.interval(),
        optimism=None if math.isnan(optimism) else optimism,
        indistinguishable=tuple(number for number in peers if number != best.number),
        n_candidates=n_candidates,
        n_compared=len(known),
        n_missing=n_missing,
    )


def _some(values: Floats) -> Floats:
    """All values (n,), or the same `MAX_SEQUENCES` for all arrays of one length."""
    if len(values) <= MAX_SEQUENCES:
        return values
    return values[np.sort(np.random.default_rng(_SEED).permutation(len(values))[:MAX_SEQUENCES])]


def _is_telling(values: Floats) -> bool:
    """Whether values (n,) have ranks: all finite, and not all the same."""
    return len(values) > 1 and bool(np.isfinite(values).all()) and bool(np.ptp(values) > 0)
