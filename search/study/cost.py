"""What a study cost: the seconds that its runs held a GPU, and the CPU time that they used."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from search.storage.attributes import RESULT


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What trials took.

    `gpu_s` are the seconds of runs on a GPU, each from its beginning to its end. `cpu_s` is the CPU time of all runs,
    as the operating system measured it for the trial's process, its threads and its children; it lacks `n_unmeasured`
    trials from before it was measured. `lost_s` are seconds of trials that left no result (failed,
    interrupted, lost), which are in neither.
    """

    gpu_s: float
    cpu_s: float
    lost_s: float
    n_unmeasured: int = 0

    @property
    def shown_cpu_s(self) -> str:
        """`56`, `56 (3 trials not measured)`, or `not measured`."""
        if not self.n_unmeasured:
            return f"{self.cpu_s:,.0f}"
        n = f"{self.n_unmeasured} trial{'s' * (self.n_unmeasured > 1)} not measured"
        return f"{self.cpu_s:,.0f} ({n})" if self.cpu_s else "not measured"

    def __str__(self) -> str:
        """`1,234 GPU-seconds, 56 CPU-seconds`; `CPU time not measured` of trials from before it was."""
        parts = [f"{self.gpu_s:,.0f} GPU-seconds"] if self.gpu_s else []
        if self.cpu_s:
            parts.append(f"{self.cpu_s:,.0f} CPU-seconds")
        if self.n_unmeasured:
            parts.append(f"CPU time not measured in {self.n_unmeasured} trial{'s' * (self.n_unmeasured > 1)}")
        return ", ".join(parts) or "nothing"


def cost(trials: Sequence[FrozenTrial]) -> Cost:
    """The cost of trials, from their results."""
    gpu_s = cpu_s = lost_s = 0.0
    n_unmeasured = 0
    for trial in trials:
        result = trial.user_attrs.get(RESULT)
        if result is None:
            lost_s += trial.duration.total_seconds() if trial.duration else 0.0
            continue
        if str(result["device"]).startswith("cuda"):
            gpu_s += result["seconds"]
        if result.get("cpu_s") is None:
            n_unmeasured += 1
        else:
            cpu_s += result["cpu_s"]
    return Cost(gpu_s=gpu_s, cpu_s=cpu_s, lost_s=lost_s, n_unmeasured=n_unmeasured)
