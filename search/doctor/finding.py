"""What the doctor finds, one line each."""

from collections.abc import Iterable, Iterator
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


def with_closed_folders(check: str, findings: Iterable[Diagnosis]) -> Iterator[Diagnosis]:
    """The findings of a check, which may end at a folder that this user may not enter."""
    try:
        yield from findings
    except PermissionError as error:
        yield problem(check, f"{error.filename} cannot be used ({error.strerror})", "name another, or open it")
