"""What there is to train of a fold, and what came of it, whoever trains it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from search.config.run_config import RunConfig
from search.training.callbacks import Report


@dataclass(frozen=True, kw_only=True)
class OneFold:
    """A fold of a run.

    Attributes:
        config: Of the run.
        number: The fold's.
        directory: Of the run; its logs stand there.
        path: Where the weights are written.
        report: Told of every validation.
        should_stop: Asked often, so that a long epoch need not be waited for.
        is_judged: Whether it has validation rows.
        chooses_epoch: Whether the weights of the best epoch are kept; else those of the last one.
        values: The validation Spearman of each epoch until now; it grows while the fold is trained.
    """

    config: RunConfig
    number: int
    directory: Path
    path: Path
    report: Report
    should_stop: Callable[[], bool]
    is_judged: bool
    chooses_epoch: bool
    values: list[float | None] = field(default_factory=list)


@dataclass(kw_only=True)
class Trained:
    """What came of a fold.

    Attributes:
        best_epoch: Whose weights were written; None where no validation could be ranked.
        has_diverged: Whether predictions or loss of a validation were not finite.
        was_stopped: Whether it ended because it was told to.
        is_finite: Whether the weights of the last epoch are, where these are kept.
        predictions: (n,) of the validation rows on the CPU, from the weights that were written, where all went well.
    """

    best_epoch: int | None = None
    has_diverged: bool = False
    was_stopped: bool = False
    is_finite: bool = True
    predictions: Tensor | None = None
