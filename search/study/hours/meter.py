"""What a study's trials have used of cores and GPUs, in hours, read from the database.

A trial says when it begins what it occupies (`USES`): its threads, and its share of a GPU. It has used that from its
start to its end, however it ended; a trial that was lost with its worker to its last heartbeat, whether somebody has
found that out or not, and one that runs to now. Nothing is kept anywhere else, so whoever counts comes to the same.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import ENDING, HOURS, RESULT, SLOT, USES
from search.storage.ending import Ending
from search.storage.optuna_internals import id_of, storage_of
from search.storage.rows.heartbeats import last_heard_s, lease_ages_s
from search.study.hours.budget import Hours, HoursBudget

_HOUR_S = 3600.0
_OF_FAILED = (Ending.BUG, Ending.REFUSED, Ending.INTERRUPTED, Ending.LOST, Ending.TRANSIENT)
"""What a worker notes of a trial that it then ends as failed."""


def recorded_hours(attributes: Mapping[str, Any]) -> HoursBudget:
    """The budget that a study's attributes record: the highest that was asked for."""
    return HoursBudget(**{kind: attributes.get(HOURS, {}).get(kind) for kind in ("gpu", "core")})


def raise_hours(study: Study, asked: HoursBudget) -> None:
    """Remember the highest hours that were asked for, as `raise_target` does. Under the database's lock."""
    known = recorded_hours(study.user_attrs)
    highest = asked.or_more(known)
    if highest != known:
        study.set_user_attr(HOURS, highest.record)


class Meter:
    """Counts the hours of a study's trials, each finished one once, however often it is asked.

    It looks at no trial again before which all are finished: what it costs grows with the trials that run, and not with
    those that there are.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._storage: Any = storage_of(study)
        self._lease_s = getattr(self._storage, "grace_period", None) or math.inf  # of one to look at there is none
        self._heartbeat_s = getattr(self._storage, "heartbeat_interval", None) or 0.0
        self._counted = Hours()
        self._settled = 0  # the number below which every trial is counted
        self._ahead: set[int] = set()  # of the others that are

    def read(self, trials: Sequence[FrozenTrial]) -> Hours:
        """What the trials have used up to now; they are all of the study, in the order of their numbers."""
        running: list[FrozenTrial] = []
        new: list[FrozenTrial] = []
        for trial in reversed(trials):
            if trial.number < self._settled:
                break
            if trial.state == TrialState.RUNNING:
                running.append(trial)
            elif trial.state.is_finished() and trial.number not in self._ahead:
                new.append(trial)
        beats = last_heard_s(self._study) if any(trial.state == TrialState.FAIL for trial in new) else {}
        for trial in new:
            self._counted += _used(trial, _wall_s(trial, beats, self._heartbeat_s))
            self._ahead.add(trial.number)
        while self._settled in self._ahead:
            self._ahead.remove(self._settled)
            self._settled += 1
        return sum((_used(trial, wall_s) for trial, wall_s in self._running(running)), self._counted)

    def _running(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, float]]:
        """Trials that run, each with its seconds; it is asked of those alone that may have lost their worker."""
        now = time.time()
        walls = [(trial, now - _began(trial)) for trial in trials]
        is_asked = any(wall_s > self._lease_s for _, wall_s in walls)
        silent_s = lease_ages_s(self._storage, self._study) if is_asked else {}
        for trial, wall_s in walls:
            silence_s = silent_s.get(id_of(trial), 0.0)
            yield trial, wall_s - (silence_s if silence_s > self._lease_s else 0.0)


def used_hours(study: Study, trials: Sequence[FrozenTrial]) -> Hours:
    """What the trials of a study have used up to now."""
    return Meter(study).read(trials)


def _is_lost(trial: FrozenTrial) -> bool:
    """Whether its worker was gone before it could end the trial, and somebody found that out later.

    It may have noted that the run is complete, say, and been killed while it kept the weights in a store.
    """
    return trial.state == TrialState.FAIL and trial.user_attrs.get(ENDING) not in _OF_FAILED


def _began(trial: FrozenTrial) -> float:
    """When the trial began, in seconds since the epoch; clocks of workers agree, their time zones may not."""
    if USES in trial.user_attrs:
        return float(trial.user_attrs[USES]["since"])
    return time.time() if trial.datetime_start is None else trial.datetime_start.timestamp()


def _wall_s(trial: FrozenTrial, beats: Mapping[int, float], heartbeat_s: float) -> float:
    heard_s = beats.get(id_of(trial))
    if _is_lost(trial):
        return -math.inf if heard_s is None else heard_s - _began(trial)
    wall_s = trial.duration.total_seconds() if trial.duration else 0.0
    # Its worker may have been killed after it had noted how the trial failed.
    return wall_s if heard_s is None else min(wall_s, heard_s + heartbeat_s - _began(trial))


def _used(trial: FrozenTrial, wall_s: float) -> Hours:
    """What a trial has used in that time; clocks that were set back give no hours back."""
    hours = max(0.0, wall_s) / _HOUR_S
    if USES in trial.user_attrs:
        uses = trial.user_attrs[USES]
        return Hours(gpu=hours * uses["gpus"], core=hours * uses["cores"])
    # Of an earlier version: what can be told of it.
    is_on_gpu = str(trial.user_attrs.get(SLOT, "")).startswith("cuda")
    threads = trial.user_attrs.get(RESULT, {}).get("threads", 1)
    return Hours(gpu=hours if is_on_gpu else 0.0, core=hours * threads)
