"""What a replay of past rounds found, and its table as a file."""

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from datasets.common.files import output
from search.prediction.writers import no_formula

LABORATORY, RANDOM = "laboratory", "random"
"""Who picked, beside the acquisitions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayedPick:
    """What one way to pick finds in one round; `pandas.DataFrame(replay.picks)` makes a table of several.

    round: its name. picked_by: an acquisition, `random` or `laboratory`. known: how many variants had been measured
    before. pool: how many were measured in this round or later. picked: how many of them were picked. best: how many of
    the pool count as the best. found: how many of these were picked. share: that by `best`. highest: the highest value
    that was picked, in the assay's unit. Of `random` found, share and highest are means over all draws.
    """

    round: str
    picked_by: str
    known: int
    pool: int
    picked: int
    best: int
    found: float
    share: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The past played again.

    picks: of each round that could be played, those of the laboratory first. notes: what has to be known to read them,
    a sentence each. units: of the values.
    """

    picks: tuple[ReplayedPick, ...]
    notes: tuple[str, ...]
    units: str

    @property
    def shares(self) -> dict[str, float]:
        """Of each way to pick the mean of its shares over the rounds."""
        found: dict[str, list[float]] = {}
        for pick in self.picks:
            found.setdefault(pick.picked_by, []).append(pick.share)
        return {name: sum(some) / len(some) for name, some in found.items()}


def write_replay(replay: Replay, path: Path) -> None:
    """Write a CSV file with a row for each pick, whole or not at all; a UserError says why it cannot be written."""
    with output(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(ReplayedPick)])
        for pick in replay.picks:
            cells = (f"{one:.9g}" if isinstance(one, float) else str(one) for one in astuple(pick))
            writer.writerow(map(no_formula, cells))
