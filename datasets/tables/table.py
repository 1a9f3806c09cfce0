"""What has to be known of a user's table, and what it is called."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datasets.common.errors import UserError, nearest
from datasets.sequences.sites import region_of

STRATEGIES = (
    "random",
    "one_vs_rest",
    "two_vs_rest",
    "three_vs_rest",
    "k_vs_rest",
    "low_vs_high",
    "by_position",
    "by_group",
)
Replicates = Literal["mean", "refuse", "keep"]
GroupRule = Literal["nearest"]
ALL_FOLDS = "all"
"""The `test_fold` that stands for each in turn, which no table has."""
_NEWER = ("group_rule", "fold_column", "test_fold", "round_column")


@dataclass(frozen=True, kw_only=True)
class Table:
    """How a file is read, and what was found in it; with the file, all that a task is.

    What is None is found out by `datasets.tables.survey`, and stands in the table that it returns.

    file: as the user named it. The columns: their names in the file. `wild_type`: its residues (null: not known).
    `sites`: the 1-based positions that vary, as `39-41,54`; `window`: start and stop, as a Python slice, of what varies
    where lengths differ; both null: all of it. `split`: the strategy, null where the file has a `set` column.
    `replicates`: of several measurements of one sequence `mean` takes the mean, `keep` all, `refuse` none.
    `group_rule`: `nearest` where the split carries its groups and `by_group` takes those nearest to the sizes wanted;
    null without groups, and where `by_group` divided by the rule of the first version (see
    `datasets.tables.split_strategies`), which studies and experiments of that time keep.
    `fold_column` names the fold of each row, by which a search cross-validates; the rows of `test_fold` are the test
    part. Both are null without folds. `round_column` names the round in which each row was measured, in place of folds.
    """

    file: str
    sequence_column: str | None
    mutation_column: str | None
    target_column: str | None
    group_column: str | None
    wild_type: str | None
    sites: str | None
    window: tuple[int, int] | None
    split: str | None
    max_train_mutations: int | None
    split_seed: int
    replicates: Replicates | None
    group_rule: GroupRule | None = None
    fold_column: str | None = None
    test_fold: str | None = None
    round_column: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All fields that say how the file is read, as a study records them."""
        return {name: value for name, value in self.recorded.items() if name != "file"}

    @property
    def recorded(self) -> dict[str, Any]:
        """All fields, as an experiment holds them: without those that are not used and that once there were not."""
        return {name: value for name, value in asdict(self).items() if name not in _NEWER or value is not None}

    def __post_init__(self) -> None:
        """Refuse sites that are not written as they should be, whoever wrote them."""
        try:
            region_of(self.sites, self.window)
        except ValueError as error:
            raise UserError(f"table.sites={self.sites!r} is not valid: {error}.") from None
        if self.test_fold is not None and (self.fold_column is None or self.split is not None):
            raise UserError("table.test_fold is not valid without a table.fold_column, or beside a table.split.")
        if self.round_column is not None and self.fold_column is not None:
            raise UserError("table.round_column is not valid beside a table.fold_column.")


def check_strategy(name: str) -> None:
    """Refuse a strategy that there is not."""
    if name not in STRATEGIES:
        raise UserError(f"There is no split {name!r}; expected {', '.join(STRATEGIES)}.{nearest(name, STRATEGIES)}")


def table_name(path: Path) -> str:
    """Return what a task is called after its file: letters, digits and ``. _ + -``."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", stem(path.name)).strip("_.-+")
    return name[:60] or "table"


def stem(name: str) -> str:
    """Return a table's file name without what says its format."""
    for suffix in (".gz", ".csv", ".tsv", ".txt", ".tab", ".parquet", ".fasta", ".fa", ".faa"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name
