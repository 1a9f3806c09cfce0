"""What a study cost: the seconds that its runs held a GPU, or cores."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from search.attributes import RESULT


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of runs, each from its beginning to its end.

    `gpu_s` are those on a GPU; `core_s` those without one, times their threads. `lost_s` are seconds of trials that
    left no result (failed, interrupted, lost), which are in neither.
    """

    gpu_s: float
    core_s: float
    lost_s: float

    def __str__(self) -> str:
        """`1,234 GPU-seconds, 56 core-seconds`, without the kind that there is none of."""
        parts = [(self.gpu_s, "GPU-seconds"), (self.core_s, "core-seconds")]
        return ", ".join(f"{seconds:,.0f} {what}" for seconds, what in parts if seconds) or "nothing"


def cost(trials: Sequence[FrozenTrial]) -> Cost:
    """The cost of trials, from their results."""
    gpu_s = core_s = lost_s = 0.0
    for trial in trials:
        result = trial.user_attrs.get(RESULT)
        if result is None:
            lost_s += trial.duration.total_seconds() if trial.duration else 0.0
        elif str(result["device"]).startswith("cuda"):
            gpu_s += result["seconds"]
        else:
            core_s += result["seconds"] * result["threads"]
    return Cost(gpu_s=gpu_s, core_s=core_s, lost_s=lost_s)
