"""What a replay of past rounds is asked for, whether from Python or from the command line."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from datasets.common.errors import UserError
from search.request.fields import set_paths, set_whole
from search.request.search_request import runs_folder

_PATHS = ("experiment", "output", "data", "runs_dir", "data_dir", "weights_dir")


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """How the past is played again; the options of `suggest --replay` have the same names (docs/suggest.md).

    Args:
        experiment: Its file; its table has a column of rounds.
        output: FILE.csv, for the table; None writes nothing.
        top: How many of the best variants are to be found in each round; None is the best 1 %, at least 10.
        beta: Of `ucb`; None is 1. seed: Of `thompson` and of the folds.
        max_per_position, min_distance: What each batch has to keep to, as in `suggest`.
        data: The table, where it stands elsewhere by now.
        runs_dir, data_dir, weights_dir: Folders, as for a search.
        quiet: Whether progress stays unsaid.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    experiment: Path
    output: Path | None = None
    top: int | None = None
    beta: float | None = None
    seed: int = 0
    max_per_position: int | None = None
    min_distance: int | None = None
    data: Path | None = None
    runs_dir: Path = field(default_factory=runs_folder)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what needs no experiment to be seen."""
        set_paths(self, _PATHS)
        set_whole(self, ("top", "max_per_position", "min_distance"), least=1, may_be_none=True)
        set_whole(self, ("seed",), least=0)
        if not isinstance(self.deviations, int | float) or not 0 <= self.deviations < math.inf:
            raise UserError(f"--beta {self.beta!r} is not valid: expected a number from 0 on, such as 0.5.")

    @property
    def deviations(self) -> float:
        """How many are added by `ucb`."""
        return 1.0 if self.beta is None else self.beta
