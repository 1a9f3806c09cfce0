"""What has to be known of a user's table, and what it is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

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
Censored = Literal["limit", "drop", "refuse"]
CENSORED: tuple[Censored, ...] = get_args(Censored)
_LATER = ("group_rule", "sheet", "censored")
"""Fields that are recorded only where they are used: the first studies and experiments had none of them."""


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
    `datasets.tables.split_strategies`), which studies and experiments of that time keep. `sheet`: of an Excel file, the
    one that was named. `censored`: what becomes of targets such as ``<0.01``, if there are any: `drop` sets their rows
    aside, `refuse` refuses them, null takes the limit for the value.
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
    sheet: str | None = None
    censored: Censored | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All fields that say how the file is read, as a study records them."""
        known = {name: value for name, value in asdict(self).items() if name != "file"}
        return without_unused(known)

    def __post_init__(self) -> None:
        """Refuse sites that are not written as they should be, whoever wrote them."""
        try:
            region_of(self.sites, self.window)
        except ValueError as error:
            raise UserError(f"table.sites={self.sites!r} is not valid: {error}.") from None


def without_unused(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a table without those that are not used: so it was recorded before there were such."""
    return {name: value for name, value in known.items() if value is not None or name not in _LATER}


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
    for suffix in (
        ".gz",
        ".csv",
        ".tsv",
        ".txt",
        ".tab",
        ".parquet",
        ".xlsx",
        ".xlsm",
        ".xls",
        ".fasta",
        ".fa",
        ".faa",
    ):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name
