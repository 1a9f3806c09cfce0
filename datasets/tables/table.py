"""What has to be known of a user's table, and what it is called."""

from __future__ import annotations

import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from datasets.common.errors import UserError, nearest
from datasets.sequences.chains import DIVIDER, MOST_CHAINS, Chains
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
FIRST_POSITIONS = (-9999999, 9999999)
"""The smallest and the largest number that the wild type's first residue may have."""
Replicates = Literal["mean", "refuse", "keep"]
REPLICATES: tuple[Replicates, ...] = get_args(Replicates)
GroupRule = Literal["nearest"]
MOST_FOLDS = 1000
"""Each of them trains a model."""
ALL_FOLDS = "all"
"""The `test_fold` that stands for each in turn, which no table has."""
Censored = Literal["limit", "drop", "refuse"]
CENSORED: tuple[Censored, ...] = get_args(Censored)
Stops = Literal["drop", "refuse"]
STOPS: tuple[Stops, ...] = get_args(Stops)


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
    `datasets.tables.split_strategies`), which studies and experiments of that time keep. `replicate_columns`: those
    whose mean is the target, instead of one column; `target_column` is then what they are called together.
    `error_column`: the standard error of each row's target. `fold_column` names the fold of each row, by which a search
    cross-validates; the rows of `test_fold` are the test part. Both are null without folds. `first_position`: the
    number of the wild type's first residue in mutations, those of the table and all that are written; `sites` and
    `window` do not depend on it. `sheet`: of an Excel file, the one that was named. `censored`: what becomes of targets
    such as ``<0.01``, if there are any: `drop` sets their rows aside, `refuse` refuses them, null takes the limit for
    the value. `round_column` names the round in which each row was measured, in place of folds. `stops`: what becomes
    of variants with a stop codon, if there are any: `drop` sets their rows aside, null refuses them. `properties`: all
    target columns where several are searched, in the order of their names: the rows that any of them has are divided
    once for all, and those of `target_column` are taken from that (see `whole`). `aligned_length`: the
    columns of the alignment that the sequences are, with `-` for gaps; null where none has a gap. `chains`: of proteins
    of several chains their names and columns (`datasets.sequences.chains`). `chain_columns`: those of a chain each,
    instead of one column of sequences; `sequence_column` is then what they are called together. `lengths_differ`: of
    sequences whose lengths differ beside a wild type, where no `window` says so.
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
    replicate_columns: tuple[str, ...] = ()
    error_column: str | None = None
    fold_column: str | None = None
    test_fold: str | None = None
    round_column: str | None = None
    first_position: int = 1
    sheet: str | None = None
    censored: Censored | None = None
    stops: Stops | None = None
    properties: tuple[str, ...] = ()
    aligned_length: int | None = None
    chains: str | None = None
    chain_columns: tuple[str, ...] = ()
    lengths_differ: bool = False

    @property
    def whole(self) -> Table | None:
        """The table of all rows that any of the properties has, which is divided for all; None of a single property.

        It has no target column. A limit counts as measured, whatever `censored` makes of it for one of the properties.
        """
        if not self.properties or self.target_column is None:
            return None
        return replace(self, target_column=None, censored=None, sites=None, window=None)

    @property
    def measured_columns(self) -> tuple[str | None, ...]:
        """The columns in which a measurement may stand."""
        return self.replicate_columns or ((self.target_column,) if self.target_column else self.properties) or (None,)

    @property
    def settings(self) -> dict[str, Any]:
        """All fields that say how the file is read, as a study records them.

        Fields with a default are left out where they have it: studies of the time before there was such a field go on.
        So they do without `lengths_differ`, which says what was found, and the file says that, too.
        """
        later = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        known = {name: value for name, value in asdict(self).items() if name not in ("file", "lengths_differ")}
        return {name: value for name, value in known.items() if name not in later or value != later[name]}

    @property
    def recorded(self) -> dict[str, Any]:
        """The file and the settings, as an experiment holds them."""
        return {"file": self.file, **self.settings, **({"lengths_differ": True} if self.lengths_differ else {})}

    def __post_init__(self) -> None:
        """Refuse sites, a number and a wild type that are not written as they should be, whoever wrote them."""
        for name in ("replicate_columns", "properties", "chain_columns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON knows lists alone
        least, most = FIRST_POSITIONS
        if type(self.first_position) is not int or not least <= self.first_position <= most:
            raise UserError(
                f"first_position={self.first_position!r} is not valid: expected a whole number from {least} to {most}, "
                "that of the wild type's first residue."
            )
        if self.wild_type is not None and not re.fullmatch("[A-Za-z|-]+", self.wild_type):
            raise UserError(f"table.wild_type={self.wild_type[:60]!r} is not valid: expected letters, one a residue.")
        n_chains = (self.wild_type or "").count(DIVIDER) + 1
        if n_chains > MOST_CHAINS:
            raise UserError(f"table.wild_type is not valid: it has {n_chains} chains, expected at most {MOST_CHAINS}.")
        if self.aligned_length is not None and not (type(self.aligned_length) is int and self.aligned_length > 0):
            raise UserError(f"table.aligned_length={self.aligned_length!r} is not valid: expected a number of columns.")
        try:
            chains = None if self.chains is None else Chains.of(self.chains)
        except (ValueError, AttributeError) as error:
            raise UserError(f"table.chains={self.chains!r} is not valid: {error}.") from None
        if chains is not None and self.first_position != 1:
            raise UserError("The positions of each chain are counted from 1: leave --first-position out.")
        try:
            region_of(self.sites, self.window)
        except ValueError as error:
            raise UserError(f"table.sites={self.sites!r} is not valid: {error}.") from None
        if self.test_fold is not None and (self.fold_column is None or self.split is not None):
            raise UserError("table.test_fold is not valid without a table.fold_column, or beside a table.split.")
        for name in ("fold_column", "test_fold", "round_column"):  # all are shown to people
            if not (getattr(self, name) or "").isprintable():
                raise UserError(f"table.{name}={getattr(self, name)!r} is not valid: expected what a terminal shows.")
        if self.round_column is not None and self.fold_column is not None:
            raise UserError("table.round_column is not valid beside a table.fold_column.")
        if self.properties:
            self._check_properties()

    def _check_properties(self) -> None:
        found = self.properties
        if len(found) < 2 or list(found) != sorted(set(found)) or not "".join(found).isprintable():
            raise UserError(f"table.properties={list(found)!r} is not valid: expected two names or more, in order.")
        if self.target_column not in (None, *found) or self.replicate_columns or self.error_column is not None:
            raise UserError(
                "table.properties are not valid without table.target_column among them, or with replicates."
            )
        if self.split == "low_vs_high":
            raise UserError(
                "--split low_vs_high divides by the target, and several properties are divided alike: choose another "
                "split, or search each --target-column by itself."
            )


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
