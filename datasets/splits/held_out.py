"""The sealed test set: the one module that reads test targets, for `search.confirmation` alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.splits.rows import test_targets
from datasets.task import Announce, Task


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """What the test rows of a split were measured as.

    target: (M,) float32, in the task's units, in the order of `datasets.splits.prepared.test_sequences`.
    official: whether it is the dataset's own content. label: what every place that shows a result on it has to say.
    """

    target: NDArray[np.float32]
    official: bool
    label: str


def read_test_set(task: Task, *, data_dir: Path | None, data_hash: str, announce: Announce) -> HeldOut:
    """Read the test targets of a task from its source; nothing of them is kept anywhere.

    Args:
        task: The task.
        data_dir: Where its file is looked for first.
        data_hash: What the split's table has to be, as `PreparedSplit.data_hash` says it.
        announce: Told of what takes long.

    Raises:
        UserError: The source is not found, or holds other content by now.
    """
    located = task.source.locate(data_dir=data_dir, announce=announce)
    raw = task.source.read(located, task.split)
    if raw.content_hash != data_hash:
        raise UserError(
            f"{raw.where} was changed meanwhile: its hash is {raw.content_hash[:12]}..., that of the data of the "
            f"experiment is {data_hash[:12]}...; put the former file back."
        )
    return HeldOut(target=test_targets(raw, official=located.official), official=located.official, label=located.label)
