"""Published test results on FLIP's tasks, each with where it was read: `published_spearman.csv`."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).parent / "published_spearman.csv"


@dataclass(frozen=True, kw_only=True)
class Published:
    """Spearman of a model on the test set of a task, as others published it, or as it follows from their recipe.

    `by` is who; `std` the standard deviation between seeds, None where it was not published.
    """

    task: str
    by: str
    model: str
    spearman: float
    std: float | None
    source: str


@cache
def published_results() -> tuple[Published, ...]:
    """All of them, in the order of the table."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                task=row["task"],
                by=row["by"],
                model=row["model"],
                spearman=float(row["spearman"]),
                std=float(row["std"]) if row["std"] else None,
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )
