"""A user's table as a task: what has to be known of it, and where its rows come from."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datasets.crop import Crop, Sites
from datasets.errors import UserError, nearest
from datasets.sites import region_of
from datasets.task import Announce, Located, RawSplit, Task

if TYPE_CHECKING:
    from datasets.survey import Survey

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


@dataclass(frozen=True, kw_only=True)
class Table:
    """How a file is read, and what was found in it; with the file, all that a task is.

    What is None is found out by `datasets.survey`, and stands in the table that it returns.

    file: as the user named it. The columns: their names in the file. `wild_type`: its residues (null: not known).
    `sites`: the 1-based positions that vary, as `39-41,54`; `window`: start and stop, as a Python slice, of what varies
    where lengths differ; both null: all of it. `split`: the strategy, null where the file has a `set` column.
    `replicates`: of several measurements of one sequence `mean` takes the mean, `keep` all, `refuse` none.
    `group_rule`: `nearest` where the split carries its groups and `by_group` takes those nearest to the sizes wanted;
    null without groups, and where `by_group` divided by the rule of the first version (see
    `datasets.split_strategies`), which studies and experiments of that time keep.
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

    @property
    def settings(self) -> dict[str, Any]:
        """All fields that say how the file is read, as a study records them."""
        known = {name: value for name, value in asdict(self).items() if name != "file"}
        if self.group_rule is None:  # as studies had it before there was such a field
            del known["group_rule"]
        return known

    def __post_init__(self) -> None:
        """Refuse sites that are not written as they should be, whoever wrote them."""
        try:
            region_of(self.sites, self.window)
        except ValueError as error:
            raise UserError(f"table.sites={self.sites!r} is not valid: {error}.") from None


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The file of a `Table`, or another one with the same content, at `path`; `loaded` is what was read of it."""

    table: Table
    path: Path
    loaded: Survey | None = None

    def locate(self, *, data_dir: Path | None, announce: Announce) -> Located:
        """Name the content by the SHA-256 of the file and of how it is read."""
        if self.path.exists() and not self.path.is_file():
            raise UserError(f"The table {self.path} is a folder, a pipe or a device and no file: save it as a file.")
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(
                f"The table {self.path} cannot be read ({error.strerror}): name it with --data FILE."
            ) from None
        about: list[object] = [digest, self.table.settings]
        if self.table.group_column is not None:
            about.append("with groups")  # which prepared files of the first version lack
        version = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        return Located(path=self.path, version=version, official=False, label=self.path.name, is_own=True)

    def read(self, located: Located, split: str) -> RawSplit:
        """Return the rows of the divided table."""
        from datasets.survey import survey

        return (self.loaded or survey(self.path, self.table, is_reread=True)).raw_split()

    def sizes(self, located: Located, split: str) -> tuple[int, int, int]:
        """Return the numbers of train, validation and test variants."""
        raw = self.read(located, split)
        marks = list(zip(raw.part, raw.validation, strict=True))
        return marks.count(("train", "")), marks.count(("train", "True")), marks.count(("test", ""))


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


def table_task(table: Table, *, name: str, path: Path | None = None, loaded: Survey | None = None) -> Task:
    """Return the task; nothing is read until its source is asked.

    `path`: where the file stands now, if not where the table says; `loaded`: what was read of it already.
    """
    region = region_of(table.sites, table.window)
    crops = {"none": Crop()}
    if isinstance(region, Sites):
        crops["region"] = Crop(start=region.positions[0], stop=region.positions[-1] + 1)
    elif isinstance(region, Crop):
        crops["region"] = region
    return Task(
        name=name,
        dataset=name,
        split=table.split or "as in the file",
        source=TableSource(table=table, path=path or Path(table.file), loaded=loaded),
        clean=str,
        clean_version=1,
        crops=crops,
        default_crop="none",
        region=region,
        wild_type=table.wild_type,
        units=table.target_column or "",
        shift="fitness" if table.split == "low_vs_high" else None,
    )
