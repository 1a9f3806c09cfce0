"""The measurements of bench_fleet.py."""

import argparse
import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from sqlalchemy import text

from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.storage.attributes import ENDING, SLOT, WORKER
from search.storage.database import Database, open_database
from search.storage.lease_policy import LeasePolicy
from search.storage.optuna_internals import id_of
from search.storage.url import default_url
from search.study.artifacts import Artifacts
from search.study.config import study_config
from search.study.study import DIRECTION, find_study, manifest, open_study
from search.workers import trial as trial_module
from search.workers.child import Child, prepare_children
from search.workers.display import Display
from search.workers.signals import Signals
from search.workers.worker import Worker, make_pruner, make_sampler
from tests.benchmarks import dummy_run, many_trials, wide_fleet
from tests.benchmarks.timed_lock import TimedLock
from tests.helpers.postgres import running_postgres

N_WORKERS = 8
N_TRIALS = 200
N_BARE = 40  # of bare Optuna in the long study, each of which takes it seconds
FEW, MANY = 100, 9_800  # so that the second measurement ends at 10,000
GOAL_MB = 1000
GOAL_RATIO = 1.1
GOAL_GROWTH = 1.5
GOAL_START_S = 0.1
OVERRIDES = [
    "task=synthetic_two_vs_rest",
    "model=cnn",
    "validation=holdout",
    f"trainer.max_epochs={dummy_run.N_EPOCHS}",
    "trainer.threads=1",
]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one worker: its seconds, in all, of children that start, of its CPU, of waiting for and holding the lock; its
    most memory.
    """

    wall_s: float
    start_s: float
    cpu_s: float
    waited_s: float = 0.0
    held_s: float = 0.0
    memory_mb: float = 0.0


class _Starts:
    """How long children take from the call that starts them to their first word."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Child:
        began = time.perf_counter()
        child = dummy_run.start(*arguments, **named)
        while not child._pipe.poll(1.0):
            pass
        self.total_s += time.perf_counter() - began
        return child


def fleet_worker(url: str, folder: Path, name: str, n_target: int, ready: Barrier, told: "Queue[Measured]") -> None:
    """One worker of ours; its children are processes like those that train."""
    starts = _Starts()
    trial_module.isolated_run = starts
    prepare_children()
    config = study_config(OVERRIDES)
    split = prepare(find_task(config.task), data_dir=None, cache_dir=folder / "cache", announce=print)
    database = open_database(url, create=False)
    lock = TimedLock(database.lock)
    object.__setattr__(database, "lock", lock)
    study = find_study(database, name)
    with contextlib.closing(dummy_run.start(config.run({}), split.path, None, folder / f"warm-{os.getpid()}")) as child:
        while not child._pipe.poll(1.0):  # the forkserver has everything loaded
            pass
    worker = Worker(
        study=study,
        database=database,
        config=config,
        split=split.path,
        places=Places(weights_dir=None, cache_dir=folder / "cache"),
        directory=folder / name,
        n_target=n_target,
        max_failures=1,
        signals=Signals(print),
        display=Display(),
        artifacts=Artifacts(directory=folder / name, keep_top=5, announce=print),
    )
    starts.total_s = 0.0
    ready.wait()
    began, used = time.perf_counter(), time.process_time()
    worker.work()
    told.put(
        Measured(
            wall_s=time.perf_counter() - began,
            start_s=starts.total_s,
            cpu_s=time.process_time() - used,
            waited_s=sum(lock.waited_s),
            held_s=sum(lock.held_s),
            memory_mb=_most_memory_mb(),
        )
    )


def _most_memory_mb() -> float:
    """The most that this process had in memory; `getrusage` would count its parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def bare_worker(url: str, name: str, number: int, n_trials: int, ready: Barrier, told: "Queue[Measured]") -> None:
    """`study.optimize` of the same objective with the same sampler, pruner, leases and database."""
    config = study_config(OVERRIDES)
    storage = _bare_storage(url)
    study = optuna.load_study(
        study_name=name, storage=storage, sampler=make_sampler(config, number), pruner=make_pruner(config)
    )

    def objective(trial: optuna.Trial) -> float:
        run = config.run(config.space.suggest(trial, config.defaults))
        for epoch in range(dummy_run.N_EPOCHS):
            trial.report(dummy_run.value_at(run.model, epoch), step=epoch + 1)
            if epoch + 1 < dummy_run.N_EPOCHS and trial.should_prune():
                raise optuna.TrialPruned
        return dummy_run.value_at(run.model, dummy_run.N_EPOCHS - 1)

    ready.wait()
    began, used = time.perf_counter(), time.process_time()
    study.optimize(objective, n_trials=n_trials)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    told.put(Measured(wall_s=wall_s, start_s=0.0, cpu_s=cpu_s, memory_mb=_most_memory_mb()))


def _bare_storage(url: str) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna.storages.RDBStorage(
        url,
        heartbeat_interval=LeasePolicy().heartbeat_s,
        grace_period=LeasePolicy().lease_s,
        engine_kwargs={"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True},
    )


def measure(target: Any, arguments: list[tuple[Any, ...]]) -> list[Measured]:
    """Run the workers, all at once."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(len(arguments)), context.Queue()
    processes = [context.Process(target=target, args=(*words, ready, told)) for words in arguments]
    for process in processes:
        process.start()
    measured = [told.get(timeout=3000) for _ in processes]
    for process in processes:
        process.join()
    return measured


def fill(database: Database, study: optuna.Study, n: int) -> None:
    """Finished trials of the same kind, written directly."""
    config = study_config(OVERRIDES)
    source = optuna.create_study(direction=DIRECTION, sampler=optuna.samplers.RandomSampler(seed=0))
    began = datetime.now() - timedelta(days=1)
    trials = []
    for number in range(n):
        trial = source.ask()
        params = config.run(config.space.suggest(trial, config.defaults)).model
        distributions: dict[str, BaseDistribution] = trial.distributions
        n_epochs = dummy_run.N_EPOCHS if number % 2 else 3
        values = {epoch + 1: dummy_run.value_at(params, epoch) for epoch in range(n_epochs)}
        is_complete = n_epochs == dummy_run.N_EPOCHS
        made = optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.PRUNED,
            value=values[n_epochs] if is_complete else None,
            params=trial.params,
            distributions=distributions,
            intermediate_values=values,
            user_attrs={WORKER: "elsewhere:1", SLOT: "cpu", ENDING: "complete" if is_complete else "pruned"},
        )
        made.number = number
        made.datetime_start, made.datetime_complete = began, began + timedelta(seconds=1)
        trials.append(made)
    with database.storage.engine.connect() as connection:
        last: int | None = connection.execute(text("SELECT max(trial_id) FROM trials")).scalar()
    many_trials.insert(database.storage.engine, id_of(study), (last or 0) + 1, trials)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a trial costs a worker, in seconds outside of its child unless it says otherwise."""

    wall_s: float
    cpu_s: float
    waited_s: float
    held_s: float
    start_s: float
    memory_mb: float

    @classmethod
    def of(cls, measured: list[Measured], n_trials: int) -> "Row":
        """The mean over trials; of memory the most of any worker."""

        def mean(name: str) -> float:
            return float(sum(getattr(one, name) for one in measured)) / n_trials

        seconds = {name: mean(name) for name in ("cpu_s", "waited_s", "held_s", "start_s")}
        memory_mb = max(one.memory_mb for one in measured)
        return cls(wall_s=mean("wall_s") - seconds["start_s"], memory_mb=memory_mb, **seconds)


HEADER = f"{'':34} {'wall':>7} {'CPU':>7} {'waits':>7} {'holds':>7} {'child':>7} {'memory':>8}"


def compare(url: str, kind: str, folder: Path, given: argparse.Namespace, n_before: int, n_bare: int) -> Row:
    """What a trial of ours costs; of several measurements, of both sides in turn, the one with the least CPU time."""
    config = study_config(OVERRIDES)
    database = open_database(url, create=True)
    sides: dict[str, list[Row]] = {"ours": [], "bare": []}
    for i, side in enumerate(("ours", "bare") * given.repeat):
        name = f"{side}-{n_before}-{i}"
        if side == "ours":
            study = open_study(database, name, manifest(config, data_hash="", label="", model="cnn"))
        else:
            study = optuna.create_study(storage=database.storage, study_name=name, direction=DIRECTION)
        fill(database, study, n_before)
        if side == "ours":
            words = [(url, folder, name, n_before + given.trials) for _ in range(given.workers)]
            row = Row.of(measure(fleet_worker, words), given.trials)
        else:
            each = max(1, n_bare // given.workers)
            bare_words = [(url, name, i, each) for i in range(given.workers)]
            row = Row.of(measure(bare_worker, bare_words), each * given.workers)
        sides[side].append(row)
        seconds = (row.wall_s, row.cpu_s, row.waited_s, row.held_s, row.start_s)
        shown = "".join(f" {second:7.3f}" for second in seconds) + f" {row.memory_mb:5.0f} MB"
        print(f"{kind + ', ' + side + ' from ' + format(n_before, ','):34}{shown}", flush=True)
    ours, bare = (min(sides[side], key=lambda row: row.cpu_s) for side in ("ours", "bare"))
    wall, cpu = ours.wall_s / bare.wall_s, ours.cpu_s / bare.cpu_s
    print(
        f"{kind}, from {n_before:,} trials: {wall:.2f} times bare Optuna's wall time, {cpu:.2f} times its CPU time; "
        f"goal at most {GOAL_RATIO}: {_met(wall <= GOAL_RATIO)}, by CPU time {_met(cpu <= GOAL_RATIO)}",
        flush=True,
    )
    return ours


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def child_cpu_seconds(folder: Path, n: int = 20) -> float:
    """CPU seconds to start a child and end it, its own and its parent's, in a warm forkserver."""
    prepare_children()
    config = study_config(OVERRIDES).run({})

    def one(number: int) -> None:
        with contextlib.closing(dummy_run.start(config, folder, None, folder / f"cpu-{number}")) as child:
            while child.next_message(1.0) is None:
                pass

    one(0)
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    before = _cpu_s(server), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    for number in range(1, n + 1):
        one(number)
    time.sleep(0.5)  # the last one is waited for
    after = _cpu_s(server), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    return (after[0] - before[0] + after[1] - before[1]) / n


def _cpu_s(pid: int) -> float:
    """Of a process and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a fleet costs beside bare Optuna, and whether that grows.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--database", choices=("sqlite", "postgres"), help="one of them alone, and no 64 workers")
    which.add_argument("--wide", action="store_true", help="the 64 workers alone")
    parser.add_argument("--trials", type=int, default=N_TRIALS, help="that are run (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=N_WORKERS, help="(default: %(default)s)")
    parser.add_argument("--before", type=int, default=MANY, help="of the long study (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="measure each so often, in turn (default: 1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_postgres(max_connections="300") as server:
        folder = Path(name)
        urls = {"Postgres": server.url(server.create_database()), "SQLite": default_url(folder)}
        if not given.wide:
            start = child_cpu_seconds(folder)
            print(
                f"start of a child: {start:.3f} s of CPU; goal at most {GOAL_START_S} s: {_met(start <= GOAL_START_S)}"
            )
            print("GPU context creation: " + _gpu_context())
            print(f"{given.workers} workers, {os.cpu_count()} cores; seconds of a worker a trial\n{HEADER}", flush=True)
        for kind, url in urls.items():
            if not given.wide and given.database in (None, kind.lower()):
                _compare_lengths(url, kind, folder, given)
        if given.database is None:
            wide_fleet.simulate(server.url(server.create_database()), folder)


def _compare_lengths(url: str, kind: str, folder: Path, given: argparse.Namespace) -> None:
    few = compare(url, kind, folder, given, FEW, given.trials)
    many = compare(url, kind, folder, given, given.before, min(given.trials, N_BARE))
    wall, cpu = many.wall_s / few.wall_s, many.cpu_s / few.cpu_s
    print(
        f"{kind}: a trial costs {wall:.2f} times as much wall time at {given.before + given.trials:,} trials as at "
        f"{FEW}, and {cpu:.2f} times as much CPU time; goal at most {GOAL_GROWTH}: "
        f"{_met(wall <= GOAL_GROWTH)}, by CPU time {_met(cpu <= GOAL_GROWTH)}\n"
        f"{kind}: a worker has {few.memory_mb:.0f} MB at {FEW} trials and {many.memory_mb:.0f} MB at "
        f"{given.before + given.trials:,}; goal at most {GOAL_MB}: {_met(many.memory_mb <= GOAL_MB)}",
        flush=True,
    )


def _gpu_context() -> str:
    import torch

    if not torch.cuda.is_available():
        return "no GPU here"
    began = time.perf_counter()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    return f"{time.perf_counter() - began:.2f} s"
