"""The part of each sequence that a model sees: the crop, then a window where even that is too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import SequenceError
from datasets.task import Task

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthLimit:
    """The most residues that a model sees of a sequence.

    `max_length` is what the run asks for (config data.max_length), `max_residues` what the model can take; the
    smaller one counts, None is no limit. `truncate` False refuses longer sequences rather than cutting them.
    """

    max_length: int | None
    max_residues: int | None
    truncate: bool

    @property
    def n_residues(self) -> int | None:
        """The limit that counts."""
        return min((limit for limit in (self.max_length, self.max_residues) if limit is not None), default=None)

    @property
    def is_own(self) -> bool:
        """Whether it is the run's own choice, and not the model's."""
        return self.max_length is not None and self.max_length == self.n_residues


def place_windows(
    lengths: NDArray[np.int64], *, task: Task, crop: str | None, limit: LengthLimit
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first position (N,) and the one after the last (N,) of what is kept of sequences of `lengths` (N,).

    What a crop leaves longer than the limit is cut to a window of the limit's size, with as much on either side
    of the task's region (the sequence's first residues, if it has none) as the ends of the crop allow. A UserError
    is raised for a crop that the task lacks, a SequenceError for one that leaves nothing of a sequence, for a region
    that does not fit into the window, and for a sequence longer than the limit where it must not be cut.
    """
    name = task.default_crop if crop is None else crop
    starts, stops = task.crop(crop).window(lengths)
    for row in np.flatnonzero(starts == stops).tolist():
        raise SequenceError(
            f"The crop {name!r} leaves nothing of a sequence of {lengths[row]} residues in {task.name}",
            row,
            "; use data.crop=none.",
        )
    n_most = limit.n_residues
    is_long = (stops - starts > n_most) if n_most is not None else np.zeros(len(lengths), dtype=np.bool_)
    if n_most is None or not is_long.any():
        return starts, stops
    own = limit.is_own
    limited = f"the {n_most} that {'data.max_length allows' if own else 'the model takes'}"
    way_out = "raise data.max_length" if own else "choose a model that takes more"
    if not limit.truncate:
        ways = ["set data.truncate=true to cut such sequences", way_out]
        if len(task.crops) > 1:
            ways.append("choose a shorter crop (data.crop)")
        raise SequenceError(
            f"A sequence of {task.name} has {(stops - starts).max()} residues after the crop {name!r}, more than "
            f"{limited}",
            int((stops - starts).argmax()),
            f": {', '.join(ways[:-1])} or {ways[-1]}.",
        )
    if task.region is None:
        return starts, np.minimum(stops, starts + n_most)
    first, last = task.region.extent(lengths)
    first, last = first.clip(starts, stops), last.clip(starts, stops)
    for row in np.flatnonzero(is_long & (last - first > n_most)).tolist():
        raise SequenceError(
            f"The mutated region of {task.name} spans {last[row] - first[row]} residues, more than {limited}",
            row,
            f": {way_out}.",
        )
    centred = (first + last - n_most) // 2
    starts = np.where(is_long, centred.clip(starts, np.maximum(stops - n_most, starts)), starts)
    return starts, np.where(is_long, starts + n_most, stops)


def cut(
    residues: NDArray[np.uint8], lengths: NDArray[np.int64], *, task: Task, crop: str | None, limit: LengthLimit
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return residues and region (N, L) of what is kept of each sequence, where L is the longest of it.

    Residues are ASCII codes, 0 behind the end, as they are given: (N, Lmax) with `lengths` (N,). The errors are those
    of `place_windows`.
    """
    starts, stops = place_windows(lengths, task=task, crop=crop, limit=limit)
    n_kept = stops - starts
    n_columns = int(n_kept.max())
    inside = np.arange(n_columns) < n_kept[:, None]
    kept = np.where(inside, _shifted(residues, starts, n_columns), np.uint8(0))
    if task.region is None:
        return kept, inside
    region = task.region.mask(lengths, residues.shape[1])
    return kept, _shifted(region, starts, n_columns) & inside


def cut_with_lengths(
    residues: NDArray[np.uint8], lengths: NDArray[np.int64], *, task: Task, crop: str | None, limit: LengthLimit
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """As `cut`, but residues and lengths (N,) of what is kept of each sequence."""
    kept, _ = cut(residues, lengths, task=task, crop=crop, limit=limit)
    return kept, np.count_nonzero(kept, axis=1).astype(np.int64)


def _shifted(table: NDArray[_T], starts: NDArray[np.int64], n_columns: int) -> NDArray[_T]:
    """Return (N, n_columns), each row from its start on; what lies behind the table's end is anything."""
    if (starts == starts[0]).all():  # mostly: a view, no gathering
        return table[:, int(starts[0]) : int(starts[0]) + n_columns]
    columns = np.minimum(starts[:, None] + np.arange(n_columns), table.shape[1] - 1)
    return np.take_along_axis(table, columns, axis=1)
