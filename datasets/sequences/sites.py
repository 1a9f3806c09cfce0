"""The mutated positions of a table as they stand in a config: 1-based, `39-41,54`."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.sequences.crop import Crop, Region, Sites

_MAX_POSITION = 1 << 20


def written_sites(positions: Sequence[int]) -> str:
    """Return ascending positions as `39-41,54`; of runs with numbers below 0 (as a table may count) as `-5 to -3`."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][1] == position - 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    dash = "-" if not positions or positions[0] >= 0 else " to "
    return ",".join(str(first) if first == last else f"{first}{dash}{last}" for first, last in runs)


def region_of(sites: str | None, window: Sequence[int] | None) -> Region | None:
    """Return the region that `Common` describes; a ValueError for what is not written so."""
    if window is not None:
        start, stop = window
        return Crop(start=start, stop=stop or None)
    if sites is None:
        return None
    positions: list[int] = []
    for run in sites.split(","):
        first, dash, last = run.partition("-")
        begin, end = int(first), int(last if dash else first)
        if not 1 <= begin <= end <= _MAX_POSITION:
            raise ValueError(f"{run!r} is no position from 1 to {_MAX_POSITION:,}, or run of them such as 39-41")
        if positions and begin - 1 <= positions[-1]:
            raise ValueError(f"{run!r} is not above the positions before it")
        positions.extend(range(begin - 1, end))
    return Sites(positions=tuple(positions))
