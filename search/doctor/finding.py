"""What the doctor finds, one line each."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Of one check: how it stands and, where it does not stand well, what to do."""

    check: str
    level: Severity
    text: str
    remedy: str = ""

    def line(self) -> str:
        """`warning  disk: ...; free some space`."""
        return f"{self.level:<7}  {self.check}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")
