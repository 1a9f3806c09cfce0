"""What score columns are worth on training rows, and whether one of them gives the target away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError

MOST_AGREEMENT = 0.98
"""A Spearman beyond it is no score's: published zero-shot scores have 0.8 at most, and replicates rarely more."""
_MIN_ROWS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Worth:
    """How a column agrees with the target on training rows.

    name: the column. n: rows that have it. spearman: over these, None where that cannot be computed. follows: whether
    the target decides it: it never falls where the target rises (or never rises).
    """

    name: str
    n: int
    spearman: float | None
    follows: bool

    @property
    def is_derived(self) -> bool:
        """Whether it is made of the target, as far as training rows tell."""
        return self.follows or (
            self.n >= _MIN_ROWS and self.spearman is not None and abs(self.spearman) > MOST_AGREEMENT
        )


def worths(names: Sequence[str], scores: NDArray[np.float32], target: NDArray[np.floating]) -> list[Worth]:
    """Judge score columns (N, K) by the targets (N,) of training rows."""
    return [_worth(name, scores[:, number], target) for number, name in enumerate(names)]


def described(
    names: Sequence[str],
    scores: NDArray[np.float32],
    target: NDArray[np.floating],
    training: NDArray[np.bool_] | None,
) -> Iterator[str]:
    """Yield a line for each score column (N, K): how many have it, and how it agrees with the targets (N) to train on.

    training: which rows train, None where that is not known: then no target is looked at.
    """
    width = max(map(len, names))
    for number, name in enumerate(names):
        column = scores[:, number]
        line = f"  {name:<{width}}  {int(np.isfinite(column).sum()):,} of {len(column):,} variants have it"
        if training is None:
            yield f"{line}; with --split its agreement with the training targets is shown"
            continue
        found = _worth(name, column[training], target[training])
        agrees = "cannot be ranked" if found.spearman is None else f"Spearman {found.spearman:.3f}"
        yield f"{line}; {agrees} on {found.n:,} training rows"


def refuse_derived(names: Sequence[str], scores: NDArray[np.float32], target: NDArray[np.floating]) -> None:
    """Refuse score columns (N, K) that follow from the targets (N,) of training rows.

    Raises:
        UserError: One does; the sentence says how that can be told, and what to do.
    """
    for found in worths(names, scores, target):
        if found.is_derived:
            shown = "" if found.spearman is None else f" (Spearman {found.spearman:.3f} on {found.n:,} training rows)"
            why = (
                "it never falls where the target rises, or never rises there"
                if found.follows
                else f"no score that is known without measuring agrees better than {MOST_AGREEMENT:g}"
            )
            raise UserError(
                f"The score column {found.name!r} seems to be made of the target{shown}: {why}; leave it out, or say "
                "--allow-derived if it is known of variants that were not measured."
            )


def _worth(name: str, column: NDArray[np.float32], target: NDArray[np.floating]) -> Worth:
    from scipy.stats import spearmanr  # here because it is heavy

    present = np.isfinite(column)
    values, measured = column[present], target[present]
    n = len(values)
    can_rank = n >= 2 and np.ptp(values) > 0 and np.ptp(measured) > 0
    spearman = float(spearmanr(values, measured).statistic) if can_rank else None
    follows = bool(can_rank and n >= _MIN_ROWS and (_never_falls(values, measured) or _never_falls(-values, measured)))
    return Worth(name=name, n=n, spearman=spearman, follows=follows)


def _never_falls(values: NDArray[np.float32], target: NDArray[np.floating]) -> bool:
    """Whether a higher target never has a lower value: the values of equal targets lie between their neighbours'."""
    order = np.lexsort((values, target))
    values, target = values[order], target[order]
    highest = np.maximum.accumulate(values)
    starts = np.flatnonzero(np.diff(target) > 0) + 1  # of the groups of equal targets, all but the first
    return bool((values[starts] >= highest[starts - 1]).all())
