"""How many test sequences lie in the intervals that `predict` would give them, of each number of mutations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit, test_sequences
from search.config.run_config import task_of
from search.experiments.experiment import Experiment
from search.stats.calibration import LEVEL, Calibration

_CLASSES = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (10, 19), (20, None))
"""Numbers of mutations that count together, the first and the last of each."""


@dataclass(frozen=True, kw_only=True)
class Covered:
    """Of n test sequences the share that lies in its intervals; `mutations` says which, "2" or "5 to 9"."""

    mutations: str
    n: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The share of n test sequences that lies in its intervals of a level, and their median width.

    validated: what kind of rows the intervals are made of. by_mutations: none where no wild type is known.
    """

    level: float
    n: int
    share: float
    width: float
    validated: str
    by_mutations: tuple[Covered, ...]

    @property
    def sentence(self) -> str:
        """What people read of it."""
        return (
            f"{100 * self.level:g} % intervals hold {100 * self.share:.1f} % of the {self.n:,} test sequences (trained "
            f"on train+validation; median width {self.width:.4g}). They are made of errors in validation "
            f"({self.validated})."
        )


def coverage_of(
    experiment: Experiment,
    fresh: Calibration | None,
    split: PreparedSplit,
    predictions: NDArray[np.float32],
    own: NDArray[np.float32] | None,
    target: NDArray[np.float32],
) -> Coverage | None:
    """The coverage of an experiment's intervals; None where there is nothing that they are made of, or too few rows.

    Args:
        experiment: Its `calibration` is not touched by any test target.
        fresh: Nor is this one, of the very weights that `predict` will take; None: the experiment's own counts.
        split: Its test sequences.
        predictions: (n, M), those of each seed trained on train and validation.
        own: (n, M), the models' own deviations, where the calibration asks for them.
        target: (M,), the test targets.
    """
    calibration = fresh or (experiment.calibration and experiment.calibration.pooled())
    if calibration is None or not calibration.is_enough(LEVEL):
        return None
    found = calibration(predictions, own, LEVEL)
    is_in = (found.low <= target) & (target <= found.high)
    wild_type = task_of(experiment.config).wild_type
    classes = []
    if wild_type is not None:
        mutations = find_mutations(*test_sequences(split), wild_type).counts
        for first, last in _CLASSES:
            rows = (mutations >= first) & (mutations <= (np.inf if last is None else last))
            if rows.any():
                name = str(first) if first == last else f"{first} or more" if last is None else f"{first} to {last}"
                classes.append(Covered(mutations=name, n=int(rows.sum()), share=float(is_in[rows].mean())))
    return Coverage(
        level=LEVEL,
        n=len(target),
        share=float(is_in.mean()),
        width=float(np.median(found.high - found.low)),
        validated=calibration.validated,
        by_mutations=tuple(classes),
    )


def kept_coverage(values: Mapping[str, Any]) -> str:
    """`88.3 % (1 mutation(s): 90.1 %, ...)` of one of a reading's `values`; `-` where it was not measured."""
    found = values.get("coverage")
    if found is None:
        return "-"
    parts: Sequence[Mapping[str, Any]] = found["by_mutations"]
    classes = ", ".join(f"{part['mutations']}: {100 * part['share']:.1f} % of {part['n']:,}" for part in parts)
    return f"{100 * found['share']:.1f} %" + (f" (by mutations {classes})" if classes else "")
