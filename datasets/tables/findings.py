"""What is unusual about a table: one sentence for each kind, with how many lines and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from datasets.common.errors import UserError
from datasets.tables.columns import Columns

Level = Literal["refused", "warning", "note"]
_N_SHOWN = 5
STOPS_REMEDY = "remove the line, or the '*' where it only ends the protein; --stops drop sets such rows aside"
STOPS_DROPPED = "rows with a stop codon are set aside"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A kind of thing found in `n` lines, of which `lines` are the first; `refused` is what no search accepts."""

    level: Level
    text: str
    lines: tuple[int, ...] = ()
    n: int = 0
    remedy: str = ""
    place: str = "line"

    @property
    def where(self) -> str:
        """``line 7``, ``lines 7, 9, 12, 15, 20, ... (31 in all)``; empty for what concerns the whole table."""
        if not self.lines:
            return ""
        if self.n == 1:
            return f"{self.place} {self.lines[0]}"
        more = f", ... ({self.n:,} in all)" if self.n > len(self.lines) else ""
        return f"{self.place}s {', '.join(map(str, self.lines))}{more}"

    def error(self, file: str) -> UserError:
        """The finding as the one sentence that ends a search."""
        at = f", {self.place} {self.lines[0]}" if self.lines else ""
        more = f" (and {self.n - 1:,} more {self.place}{'s' * (self.n > 2)} like it)" if self.n > 1 else ""
        return UserError(f"{file}{at}: {self.text}{more}" + (f"; {self.remedy}." if self.remedy else "."))


@dataclass(kw_only=True, slots=True)
class Findings:
    """Collects the findings of a table, whose rows are numbered from 0."""

    columns: Columns
    found: list[Finding] = field(default_factory=list)

    def add(self, level: Level, text: str, rows: Sequence[int] = (), *, remedy: str = "") -> None:
        """Add a finding; `text` is about the first of the rows."""
        lines = tuple(int(self.columns.lines[row]) for row in rows[:_N_SHOWN])
        self.found.append(
            Finding(level=level, text=text, lines=lines, n=len(rows), remedy=remedy, place=self.columns.place)
        )

    def raise_refused(self) -> None:
        """Raise the first finding that no search accepts."""
        for finding in self.found:
            if finding.level == "refused":
                raise finding.error(self.columns.where)
