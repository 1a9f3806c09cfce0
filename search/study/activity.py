"""Who works on a study now, how fast it goes, how long it may still take, and what it has cost."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RESULT, SLOT, WORKER
from search.storage.optuna_internals import id_of
from search.study.pruning import fold_and_epoch

_N_RECENT = 20


@dataclass(frozen=True, kw_only=True)
class RunningTrial:
    """A trial that runs, and where.

    `worker` is "host:pid", `slot` its part of that machine. `fold`, `epoch` (from 0) and `value` are those of the last
    validation, None before it, and `epoch` None of a model that is solved at once; `lease_age_s` is None as long as no
    heartbeat came.
    """

    worker: str | None
    slot: str | None
    trial: int
    fold: int | None
    epoch: int | None
    value: float | None
    running_s: float
    lease_age_s: float | None

    @property
    def silent_s(self) -> float:
        """Seconds since the last heartbeat; since the trial began, as long as none came."""
        return self.running_s if self.lease_age_s is None else self.lease_age_s


def running_trials(
    trials: Sequence[FrozenTrial], about: Mapping[str, Any], ages_s: Mapping[int, float]
) -> list[RunningTrial]:
    """Those of a study's trials that run; `about` is its manifest, `ages_s` by trial id how old heartbeats are."""
    epochs_per_fold, has_epochs, found = about.get("epochs_per_fold"), not is_solved_at_once(about), []
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        step, fold, epoch = trial.last_step, None, None
        if step is not None and epochs_per_fold:
            fold, epoch = fold_and_epoch(step, epochs_per_fold)
        started = trial.datetime_start or datetime.datetime.now()
        found.append(
            RunningTrial(
                worker=trial.user_attrs.get(WORKER),
                slot=trial.user_attrs.get(SLOT),
                trial=trial.number,
                fold=fold,
                epoch=epoch if has_epochs else None,
                value=None if step is None else trial.intermediate_values[step],
                running_s=(datetime.datetime.now() - started).total_seconds(),
                lease_age_s=ages_s.get(id_of(trial)),
            )
        )
    return found


def rate_per_hour(trials: Sequence[FrozenTrial]) -> float | None:
    """Finished trials per hour over the last 20, times at which nothing ran left out; None before the first."""
    finished = [
        (trial.datetime_complete, trial.datetime_start)
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.datetime_start and trial.datetime_complete
    ]
    recent = sorted(finished)[-_N_RECENT:]
    if not recent:
        return None
    # From the end of the oldest to the end of the newest, so that the oldest itself does not count.
    first, n = (recent[0][0], len(recent) - 1) if len(recent) > 1 else (recent[0][1], 1)
    last = recent[-1][0]
    busy_s = _union_s(
        [
            (max(trial.datetime_start, first), min(trial.datetime_complete or last, last))
            for trial in trials
            if trial.datetime_start
        ]
    )
    return 3600 * n / busy_s if busy_s > 0 else None


def busy_s(trials: Sequence[FrozenTrial]) -> float:
    """Seconds during which at least one trial ran, of those that have ended."""
    return _union_s(
        [
            (trial.datetime_start, trial.datetime_complete)
            for trial in trials
            if trial.datetime_start and trial.datetime_complete
        ]
    )


def _union_s(spans: Sequence[tuple[datetime.datetime, datetime.datetime]]) -> float:
    """Seconds that at least one span covers; those that end before they start cover none."""
    total_s, covered = 0.0, datetime.datetime.min
    for start, end in sorted(spans):
        if end > max(start, covered):
            total_s += (end - max(start, covered)).total_seconds()
            covered = end
    return total_s


def remaining_s(trials: Sequence[FrozenTrial], n_left: int) -> float | None:
    """Seconds until `n_left` more trials are finished at the present rate; None if nobody works or none finished."""
    rate = rate_per_hour(trials)
    is_worked_on = any(trial.state == TrialState.RUNNING for trial in trials)
    return 3600 * n_left / rate if rate and is_worked_on else None


def is_solved_at_once(about: Mapping[str, Any]) -> bool:
    """Whether the models of a study with this manifest have no epochs; False of what is not known."""
    from search.config import targets  # reading the sources of classes takes a while

    return targets.is_exact({"_target_": about.get("config", {}).get("model._target_")})


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
