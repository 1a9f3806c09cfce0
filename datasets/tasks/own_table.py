"""A user's table as a task: where its rows come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.files import file_hash, file_state
from datasets.sequences.chains import Chains
from datasets.sequences.crop import Crop, Sites
from datasets.sequences.sites import region_of
from datasets.tables.table import Table
from datasets.task import Announce, FoundSource, RawSplit, Task

if TYPE_CHECKING:
    from datasets.tables.survey import Survey


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The file of a `Table`, or another one with the same content, at `path`; `loaded` is what was read of it."""

    table: Table
    path: Path
    loaded: Survey | None = None

    def locate(self, *, data_dir: Path | None, announce: Announce) -> FoundSource:
        """Name the content by the SHA-256 of the file and of how it is read."""
        digest = table_hash(self.path)
        if self.loaded is not None and self.loaded.state != file_state(self.path):
            digest = f"read before: {self.loaded.raw_split().content_hash}"  # it counts, whatever was saved there since
        version = self._version(digest)
        return FoundSource(path=self.path, version=version, official=False, label=self.path.name, is_own=True)

    def _version(self, digest: str) -> str:
        about: list[object] = [digest, self.table.settings]
        # What prepared files of earlier versions lack.
        if self.table.group_column is not None:
            about.append("with groups")
        if self.table.replicates == "keep":
            about.append("one part for all rows of a sequence")
        if self.table.error_column is not None:
            about.append("the usual error of rows that are not test")
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def read(self, located: FoundSource, split: str) -> RawSplit:
        """Return the rows of the divided table."""
        # Imported as late as this, so that usage errors do not wait for NumPy.
        from datasets.tables.survey import survey

        if self.loaded is not None:
            return self.loaded.raw_split()
        found = survey(self.path, self.table, is_reread=True)
        if self._version(table_hash(self.path)) != located.version or found.state != file_state(self.path):
            raise UserError(f"The table {self.path} was saved while it was read: start the command again.")
        return found.raw_split()

    def sizes(self, located: FoundSource, split: str) -> tuple[int, int, int]:
        """Return the numbers of train, validation and test variants."""
        raw = self.read(located, split)
        marks = list(zip(raw.part, raw.validation, strict=True))
        return marks.count(("train", "")), marks.count(("train", "True")), marks.count(("test", ""))


def table_hash(path: Path) -> str:
    """Return the SHA-256 of a table's file; a UserError if it is none, or cannot be read."""
    if path.exists() and not path.is_file():
        raise UserError(f"The table {path} is a folder, a pipe or a device and no file: save it as a file.")
    try:
        return file_hash(path)
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        reason, shown = getattr(error, "strerror", None) or error, str(path)
        shown = shown if shown.isprintable() else repr(shown)
        raise UserError(f"The table {shown} cannot be read ({reason}): name it with --data FILE.") from None


def table_task(table: Table, *, name: str, path: Path | None = None, loaded: Survey | None = None) -> Task:
    """Return the task; nothing is read until its source is asked.

    `path`: where the file stands now, if not where the table says; `loaded`: what was read of it already.
    """
    region = region_of(table.sites, table.window)
    whole = None
    if table.whole is not None:
        whole = table_task(table.whole, name=name, path=path, loaded=None if loaded is None else loaded.whole)
    chains = None if table.chains is None else Chains.of(table.chains)
    crops = {"none": Crop()}
    if isinstance(region, Sites):
        crops["region"] = Crop(start=region.positions[0], stop=region.positions[-1] + 1)
    elif isinstance(region, Crop):
        crops["region"] = region
    return Task(
        name=name,
        dataset=name,
        split=table.split or (f"test fold {table.test_fold}" if table.test_fold is not None else "as in the file"),
        source=TableSource(table=table, path=path or Path(table.file), loaded=loaded),
        clean=str if chains is None else partial(chains.joined, has_gaps=table.aligned_length is not None),
        clean_version=1,
        crops=crops,
        default_crop="none",
        region=region,
        wild_type=table.wild_type,
        units="mean of " * (len(table.replicate_columns) > 1) + (table.target_column or ""),
        shift="fitness" if table.split == "low_vs_high" else None,
        has_one_length=table.window is None
        and not table.lengths_differ
        and not (table.sites is None and table.wild_type is None and table.aligned_length is None),
        first_position=table.first_position,
        whole=whole,
        has_rounds=table.round_column is not None,
        aligned_length=table.aligned_length,
        chains=chains,
    )
