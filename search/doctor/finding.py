"""What the doctor finds, one line each."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Of one check: how it stands and, where it does not stand well, what to do."""

    check: str
    level: Literal["ok", "warning", "problem"]
    text: str
    remedy: str = ""

    def line(self) -> str:
        """`warning  disk: ...; free some space`."""
        return f"{self.level:<7}  {self.check}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def ok(check: str, text: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(check=check, level="ok", text=text)


def warning(check: str, text: str, remedy: str = "") -> Diagnosis:
    """A search goes on all the same."""
    return Diagnosis(check=check, level="warning", text=text, remedy=remedy)


def problem(check: str, text: str, remedy: str = "") -> Diagnosis:
    """A search would fail."""
    return Diagnosis(check=check, level="problem", text=text, remedy=remedy)
