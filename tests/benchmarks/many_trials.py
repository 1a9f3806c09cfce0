"""The measurements of bench_many_trials.py."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial
from safetensors.numpy import load_file, save_file
from sqlalchemy import Engine, text

from datasets.common.files import link
from search.storage.attributes import RESULT, SLOT, WORKER
from search.storage.database import open_database
from search.storage.url import default_url
from search.study.artifacts import ARTIFACTS, attributes_of
from search.study.config import study_config
from search.study.pruning import step_of
from search.study.study import find_study
from search.training.predictions import VALIDATION
from search.training.result import LOG, trial_folder
from tests.helpers.postgres import running_postgres

ROOT = Path(__file__).parents[2]
N_TRIALS = 10_000
N_FIRST = 2
NAME = "many"
WORDS = ["trainer.threads=1", "trainer.max_epochs=30"]
SEARCH = ["--task", "synthetic_two_vs_rest", "--model", "cnn", "--study-name", NAME]
GOALS_S = {"status": 3.0, "report": 10.0, "after the last trial": 5.0}
GOAL_BYTES = 5_000_000
READ = """
import sys, warnings, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")
url, name = sys.argv[1:]
study = optuna.load_study(study_name=name, storage=optuna.storages.RDBStorage(url, skip_table_creation=True))
study.get_trials(deepcopy=False)
"""
DRAW = """
from optuna import visualization as v
for draw in (v.plot_optimization_history, v.plot_timeline, v.plot_param_importances, v.plot_parallel_coordinate,
             v.plot_slice):
    draw(study).to_html(include_plotlyjs=False)
"""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds on the wall, and of CPU time of the process and its children that have ended."""

    wall_s: float
    cpu_s: float


def run(words: list[str], folder: Path, *, after: str | None = None) -> Spent:
    """Run a program to its end; what is measured begins where a line of its standard error begins with `after`."""
    began = [(time.perf_counter(), 0.0)]
    said: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if after is not None and line.startswith(after):
                began.append((time.perf_counter(), _cpu_s(process.pid)))

    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        listener = threading.Thread(target=listen)
        listener.start()
        # The process ends before the pipe does: the server of its children, which has torch to unload, holds it open.
        _, status, used = os.wait4(process.pid, 0)
        ended = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
        listener.join()
    assert process.returncode == 0, "".join(said)
    assert after is None or len(began) > 1, "".join(said)
    start, used_before = began[-1]
    return Spent(wall_s=ended - start, cpu_s=used.ru_utime + used.ru_stime - used_before)


def _cpu_s(pid: int) -> float:
    """Of a process and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def fill(url: str, runs: Path, *, complete_every: int, n_trials: int = N_TRIALS) -> None:
    """Add trials until there are `n_trials`, as if they had been run."""
    database = open_database(url, create=False)
    study = find_study(database, NAME)
    first = study.get_trials(deepcopy=False)
    model = next(trial for trial in first if trial.state == TrialState.COMPLETE)
    arrays = load_file(trial_folder(runs / NAME, model.number) / VALIDATION)
    assert model.datetime_complete is not None
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    config = study_config(["task=synthetic_two_vs_rest", "model=cnn", *WORDS])
    trials = []
    for number in range(len(first), n_trials):
        asked = source.ask()
        config.space.suggest(asked, config.defaults)
        trial = _as_run(number, asked, model, arrays, runs, is_complete=number % complete_every == 0)
        trial.number = number
        trial.datetime_start = model.datetime_complete + timedelta(seconds=10 * (number - n_trials))
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=9)
        trials.append(trial)
    insert(database.storage.engine, study._study_id, first[-1]._trial_id + 1, trials)
    database.storage.engine.dispose()


def insert(engine: Engine, study_id: int, first_id: int, trials: list[FrozenTrial]) -> None:
    """What `study.add_trials` does, in one transaction: it takes minutes for as many."""
    rows: dict[Any, list[dict[str, Any]]] = {}

    def add(model: Any, **row: Any) -> None:
        rows.setdefault(model.__table__, []).append(row)

    for trial_id, trial in enumerate(trials, first_id):
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        add(
            models.TrialModel,
            trial_id=trial_id,
            number=trial.number,
            study_id=study_id,
            state=trial.state,
            datetime_start=_utc(trial.datetime_start),
            datetime_complete=_utc(trial.datetime_complete),
        )
        finite = models.TrialValueModel.TrialValueType.FINITE
        for value in trial.values or []:
            add(models.TrialValueModel, trial_id=trial_id, objective=0, value=value, value_type=finite)
        for name, distribution in trial.distributions.items():
            add(
                models.TrialParamModel,
                trial_id=trial_id,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
        for step, value in trial.intermediate_values.items():
            add(
                models.TrialIntermediateValueModel,
                trial_id=trial_id,
                step=step,
                intermediate_value=value,
                intermediate_value_type=models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE,
            )
        for key, value in trial.user_attrs.items():
            add(models.TrialUserAttributeModel, trial_id=trial_id, key=key, value_json=json.dumps(value))
        for key, value in trial.system_attrs.items():
            add(models.TrialSystemAttributeModel, trial_id=trial_id, key=key, value_json=json.dumps(value))
    with engine.begin() as connection:
        for table, of_table in rows.items():
            connection.execute(table.insert(), of_table)
        if engine.name == "postgresql":
            connection.execute(text(f"SELECT setval('trials_trial_id_seq', {first_id + len(trials)})"))


def _utc(local: datetime) -> datetime:
    return local.astimezone(UTC).replace(tzinfo=None)


def _as_run(
    number: int,
    asked: optuna.Trial,
    model: FrozenTrial,
    arrays: dict[str, "np.ndarray[Any, Any]"],
    runs: Path,
    *,
    is_complete: bool,
) -> FrozenTrial:
    """A finished trial, and its files."""
    draws = np.random.default_rng(number)
    quality = float(model.value or 0) - abs(asked.params["model.dropout"] - 0.1) - 0.1 * draws.random()
    n_epochs = 30 if is_complete else random.Random(number).choice([1, 3, 9])
    values = [quality * (1 - 0.8 ** (epoch + 1)) + 0.01 * draws.standard_normal() for epoch in range(n_epochs)]
    folder = trial_folder(runs / NAME, number)
    metrics = folder / "logs" / "fold0" / "metrics.csv"
    metrics.parent.mkdir(parents=True)
    (folder / LOG).write_text("")
    metrics.write_text("epoch,step,val_spearman\n" + "".join(f"{i},{i},{value}\n" for i, value in enumerate(values)))
    files = {}
    if is_complete:
        noise = draws.standard_normal(len(arrays["target"])).astype(np.float32) * arrays["target"].std()
        save_file({**arrays, "prediction": arrays["target"] + 2 * (1 - quality) * noise}, folder / VALIDATION)
        files = {metrics: str(uuid.UUID(int=int(draws.integers(2**60))))}
        for path, artifact in files.items():
            link(path, runs / ARTIFACTS / artifact)
    ending = "complete" if is_complete else "pruned"
    result = {
        **model.user_attrs[RESULT],
        "ending": ending if is_complete else "stopped",
        "value": max(values) if is_complete else None,
        "values": [values],
        "best_epochs": [int(np.argmax(values))],
        "checkpoints": [f"{NAME}/trial-{number:05d}/fold0.safetensors"] if is_complete else [],
    }
    attributes = {key: model.user_attrs[key] for key in (WORKER, SLOT)}
    return create_trial(
        state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
        value=max(values) if is_complete else None,
        params=asked.params,
        distributions=asked.distributions,
        user_attrs={**attributes, RESULT: result, "ending": ending},
        system_attrs=attributes_of(files),
        intermediate_values={step_of(0, epoch, 30): value for epoch, value in enumerate(values)},
    )


def measure(kind: str, url: str, folder: Path, *, complete_every: int) -> None:
    """Make a study in a database, run the commands, print what they took."""
    program = [sys.executable, str(ROOT / "run_study.py")]
    storage = ["--storage", url]
    run([*program, *SEARCH, *storage, "--n-trials", str(N_FIRST), *WORDS], folder)
    began = time.perf_counter()
    fill(url, folder / "runs", complete_every=complete_every)
    print(f"{kind}: {N_TRIALS - N_FIRST} trials added in {time.perf_counter() - began:.0f} s", flush=True)
    read = run([sys.executable, "-c", READ, url, NAME], folder)
    draw = run([sys.executable, "-c", READ + DRAW, url, NAME], folder)
    print(f"  {'reading all trials with Optuna':32} {read.wall_s:6.1f} s, {read.cpu_s:6.1f} s of CPU")
    print(f"  {'and drawing five figures':32} {draw.wall_s:6.1f} s, {draw.cpu_s:6.1f} s of CPU", flush=True)
    named = ["--study-name", NAME, *storage]
    more = [*SEARCH, *storage, "--n-trials", str(N_TRIALS + 1), *WORDS]
    _show("status", run([*program, "status", *storage], folder), read)
    _show("report", run([*program, "report", *named, "--output", "report.html"], folder), draw)
    size = (folder / "report.html").stat().st_size
    goal = f"goal {GOAL_BYTES / 1e6:.0f} MB: {_met(size <= GOAL_BYTES)}"
    print(f"  {'size of the report':32} {size / 1e6:6.1f} MB; {goal}")
    _show("after the last trial", run([*program, *more], folder, after=f"trial {N_TRIALS} "), draw)


def _show(what: str, spent: Spent, reference: Spent) -> None:
    ratio, goal_s = spent.cpu_s / reference.cpu_s, GOALS_S[what]
    print(
        f"  {what:32} {spent.wall_s:6.1f} s, {spent.cpu_s:6.1f} s of CPU, {ratio:.2f} times the reference's; "
        f"goal {goal_s:.0f} s: {_met(spent.wall_s <= goal_s)}, by CPU time {_met(spent.cpu_s <= goal_s)}",
        flush=True,
    )


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def main() -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=f"How long commands take on a study of {N_TRIALS:,} trials.")
    parser.add_argument("--all-complete", action="store_true", help="not every second trial alone")
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="one of them alone")
    given = parser.parse_args()
    complete_every = 1 if given.all_complete else 2
    with tempfile.TemporaryDirectory() as name, running_postgres() as server:
        for kind in ("SQLite", "Postgres"):
            if given.database not in (None, kind.lower()):
                continue
            folder = Path(name) / kind
            folder.mkdir()
            url = default_url(folder / "runs") if kind == "SQLite" else server.url(server.create_database())
            measure(kind, url, folder, complete_every=complete_every)
