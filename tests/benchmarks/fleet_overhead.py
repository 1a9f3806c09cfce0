"""The measurements of bench_fleet.py."""

import contextlib
import multiprocessing
import os
import resource
import sys
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
from tests.helpers.postgres import PostgresServer, running_postgres

N_WORKERS = 8
N_TRIALS = 200
FEW, MANY = 100, 9_800  # so that the second measurement ends at 10,000
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
    """Of one worker: wall seconds, and those of them that children took to start."""

    wall_s: float
    start_s: float


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
    began = time.perf_counter()
    worker.work()
    told.put(Measured(wall_s=time.perf_counter() - began, start_s=starts.total_s))


def bare_worker(url: str, folder: Path, name: str, number: int, ready: Barrier, told: "Queue[Measured]") -> None:
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
    began = time.perf_counter()
    study.optimize(objective, n_trials=N_TRIALS // N_WORKERS)
    told.put(Measured(wall_s=time.perf_counter() - began, start_s=0.0))


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


def compare(url: str, kind: str, folder: Path, n_before: int) -> float:
    """Seconds of ours. Both sides twice, in turn, so that a busy moment of the machine is seen."""
    config = study_config(OVERRIDES)
    database = open_database(url, create=True)
    sides: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for i, side in enumerate(("ours", "bare", "ours", "bare")):
        name = f"{side}-{n_before}-{i}"
        if side == "ours":
            study = open_study(database, name, manifest(config, data_hash="", label="", model="cnn"))
        else:
            study = optuna.create_study(storage=database.storage, study_name=name, direction=DIRECTION)
        fill(database, study, n_before)
        if side == "ours":
            words = [(url, folder, name, n_before + N_TRIALS) for _ in range(N_WORKERS)]
            measured = measure(fleet_worker, words)
        else:
            measured = measure(bare_worker, [(url, folder, name, number) for number in range(N_WORKERS)])
        wall = sum(one.wall_s for one in measured) / N_TRIALS
        start = sum(one.start_s for one in measured) / N_TRIALS
        sides[side].append((wall - start, start))
        shown = f", and {start:.3f} s until its child spoke" if side == "ours" else ""
        print(f"  {name}: {wall - start:.3f} s of a worker's time per trial{shown}", flush=True)
    ours, bare = min(sides["ours"])[0], min(sides["bare"])[0]
    verdict = "met" if ours <= GOAL_RATIO * bare else "missed"
    print(
        f"{kind}, {n_before} to {n_before + N_TRIALS} trials, {N_WORKERS} workers: {ours:.3f} s outside training per "
        f"trial, bare Optuna {bare:.3f} s, ratio {ours / bare:.2f}; goal at most {GOAL_RATIO}: {verdict}",
        flush=True,
    )
    return ours


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
    with tempfile.TemporaryDirectory() as name, running_postgres(max_connections="300") as server:
        folder = Path(name)
        if "--wide" not in sys.argv:
            start = child_cpu_seconds(folder)
            verdict = "met" if start <= GOAL_START_S else "missed"
            print(f"start of a child: {start:.3f} s of CPU; goal at most {GOAL_START_S} s: {verdict}", flush=True)
            print("GPU context creation: " + _gpu_context(), flush=True)
            _compare_all(server, folder)
        if "--short" not in sys.argv:
            wide_fleet.simulate(server.url(server.create_database()), folder)


def _compare_all(server: PostgresServer, folder: Path) -> None:
    urls = {"Postgres": server.url(server.create_database()), "SQLite": default_url(folder)}
    for kind, url in urls.items():
        few = compare(url, kind, folder, FEW)
        if "--short" in sys.argv:
            return
        growth = compare(url, kind, folder, MANY) / few
        verdict = "met" if growth <= GOAL_GROWTH else "missed"
        print(
            f"{kind}: a trial costs {growth:.2f} times as much at {MANY + N_TRIALS:,} trials as at {FEW}; goal at most "
            f"{GOAL_GROWTH}: {verdict}",
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
