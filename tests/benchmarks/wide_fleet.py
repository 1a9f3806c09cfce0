"""Of bench_fleet.py: 64 workers without torch, whose trials sleep."""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from datasets.common.paths import Places
from search.storage.database import open_database
from search.study.artifacts import Artifacts
from search.study.config import study_config
from search.study.study import find_study, manifest, open_study
from search.workers import trial as trial_module
from search.workers.display import Display
from search.workers.messages import Message, Value
from search.workers.signals import Signals
from search.workers.worker import Worker
from tests.benchmarks.dummy_run import N_EPOCHS, result_of, value_at
from tests.benchmarks.timed_lock import TimedLock

N_WORKERS = 64
N_TRIALS_EACH = 5
TRIAL_S = 40.0
GOAL_BUSY = 0.9
OVERRIDES = [
    "task=synthetic_two_vs_rest",
    "model=cnn",
    "validation=holdout",
    f"trainer.max_epochs={N_EPOCHS}",
    "trainer.threads=1",
    "pruner=nop",  # so that every trial sleeps as long
]


class _Sleeping:
    """A run that sleeps, and says a value now and then."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._messages = self._said(params)
        self._began = time.monotonic()
        self._next_s = TRIAL_S / N_EPOCHS

    def _said(self, params: dict[str, Any]) -> Iterator[Message]:
        values = tuple(value_at(params, epoch) for epoch in range(N_EPOCHS))
        for epoch, value in enumerate(values):
            yield Value(fold=0, epoch=epoch, value=value)
        yield result_of(values)

    def next_message(self, timeout_s: float) -> Message | None:
        """The next one, once its time has come."""
        left_s = self._began + self._next_s - time.monotonic()
        time.sleep(min(timeout_s, max(0.0, left_s)))
        if left_s > timeout_s:
            return None
        message = next(self._messages)
        # The result follows its last value at once.
        if isinstance(message, Value) and message.epoch + 1 < N_EPOCHS:
            self._next_s += TRIAL_S / N_EPOCHS
        return message

    def stop(self) -> None:
        """It is never pruned."""

    def close(self) -> None:
        """It holds nothing."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    wall_s: float
    asleep_s: float
    cpu_s: float
    waited_s: list[float]
    held_s: list[float]


def _work(url: str, folder: Path, ready: Barrier, told: "Queue[_Measured]") -> None:
    slept: list[float] = []

    def start(config: Any, *_: Any, **__: Any) -> _Sleeping:
        slept.append(TRIAL_S)
        return _Sleeping(dict(config.model))

    trial_module.isolated_run = start
    config = study_config(OVERRIDES)
    database = open_database(url, create=False)
    lock = TimedLock(database.lock)
    object.__setattr__(database, "lock", lock)
    worker = Worker(
        study=find_study(database, "wide"),
        database=database,
        config=config,
        split=folder,
        places=Places(weights_dir=None, cache_dir=folder / "cache"),
        directory=folder / "wide",
        n_target=N_WORKERS * N_TRIALS_EACH,
        max_failures=1,
        signals=Signals(print),
        display=Display(),
        artifacts=Artifacts(directory=folder / "wide", keep_top=5, announce=print),
    )
    assert "torch" not in sys.modules, "these workers are to be light"
    ready.wait()
    began, used = time.perf_counter(), time.process_time()
    worker.work()
    told.put(
        _Measured(
            wall_s=time.perf_counter() - began,
            asleep_s=sum(slept),
            cpu_s=time.process_time() - used,
            waited_s=lock.waited_s,
            held_s=lock.held_s,
        )
    )


def simulate(url: str, folder: Path) -> None:
    """Run them and print."""
    config = study_config(OVERRIDES)
    database = open_database(url, create=True)
    open_study(database, "wide", manifest(config, data_hash="", label="", model="cnn"))
    database.storage.engine.dispose()
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(N_WORKERS), context.Queue()
    processes = [context.Process(target=_work, args=(url, folder, ready, told)) for _ in range(N_WORKERS)]
    for process in processes:
        process.start()
    measured: list[_Measured] = [told.get(timeout=3000) for _ in processes]
    for process in processes:
        process.join()
    # A worker that found nothing left waits for the others' last trials: that is no cost of a trial.
    busy = sum(one.asleep_s for one in measured) / sum(one.wall_s for one in measured)
    held = sorted(second for one in measured for second in one.held_s)
    mean_s = sum(held) / len(held)
    n_trials = N_WORKERS * N_TRIALS_EACH
    waited_s = sum(sum(one.waited_s) for one in measured) / n_trials
    cpu_s = sum(one.cpu_s for one in measured) / n_trials
    verdict = "met" if busy >= GOAL_BUSY else "missed"
    print(
        f"{N_WORKERS} workers at {TRIAL_S:.0f} s a trial on Postgres, {os.cpu_count()} cores: busy {100 * busy:.1f} %; "
        f"goal {100 * GOAL_BUSY:.0f} %: {verdict}\n"
        f"a trial: {cpu_s:.3f} s of a worker's CPU time, {waited_s:.3f} s of waiting for the lock\n"
        f"the lock was held {len(held):,} times for {1000 * mean_s:.1f} ms on average, {1000 * held[-1]:.1f} ms at "
        f"most: at most {3600 / mean_s:,.0f} trials an hour pass through it",
        flush=True,
    )
