"""What the doctor finds, one line each."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Of one check: how it stands and, where it does not stand well, what to do."""

    check: str
    level: Level
    text: str
    remedy: str = ""

    def line(self) -> str:
        """`warning  disk: ...; free some space`."""
        return f"{self.level:<7}  {self.check}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")
