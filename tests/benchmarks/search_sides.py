"""The two sides of bench_search.py: our command, a user's script, what each costs, and what its database tells."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from datasets.sequences.codes import as_bytes
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.study.config import study_config
from search.study.protocol import find_protocol, with_protocol
from search.training.build import folds_of

ROOT = Path(__file__).parents[2]
N_SEEN = 56  # residues of GB1 that a model sees by default
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Side:
    """A search that ended: seconds on the wall, CPU seconds of all its processes, and its trials.

    Times are seconds after the process began: when the first trial began (`first_s`), when the last one ended
    (`last_s`). `values` has the best value so far by the time when it was known. `is_stopped` where it was given less
    time than it needed: its trials are those that had ended by then.
    """

    wall_s: float
    cpu_s: float
    first_s: float
    last_s: float
    n_trials: int
    n_epochs: int
    values: tuple[tuple[float, float], ...]
    is_stopped: bool = False

    @property
    def best(self) -> float:
        """The best value at the end."""
        return self.values[-1][1] if self.values else float("nan")

    @property
    def epochs_per_s(self) -> float:
        """While trials run, which is between the first one's start and the last one's end."""
        return self.n_epochs / (self.last_s - self.first_s)

    def reached_s(self, value: float) -> float:
        """When a value was reached; infinity if it never was."""
        return next((at for at, best in self.values if best >= value), float("inf"))


def write_table(task: str, model: str, path: Path, cache_dir: Path, n_seen: int | None = N_SEEN) -> str:
    """Write the rows that our search of a task would see, with folds, for a user's script; what validates them.

    `n_seen` residues of each sequence are written; None: all.
    """
    config, known = study_config([f"task={task}", f"model={model}"]), find_task(task)
    split = prepare(known, data_dir=None, cache_dir=cache_dir, announce=lambda _: None)
    protocol = find_protocol(config.defaults["validation"], known, split)
    fold = np.full(len(split.target), -1)
    for number, part in enumerate(folds_of(with_protocol(config, protocol).run({}), split)):
        fold[part.validation] = number
    sequences = [sequence.decode()[:n_seen] for sequence in as_bytes(split.residues, split.lengths)]
    pd.DataFrame({"sequence": sequences, "target": split.target, "fold": fold}).to_csv(path, index=False)
    return protocol.shown


def search_ours(folder: Path, warm: Path, words: Sequence[str]) -> Side:
    """A search as a user types it, in a fresh runs folder with the prepared data of `warm`."""
    if warm.exists():
        shutil.copytree(warm, folder / "runs" / "cache")
    program = [sys.executable, str(ROOT / "run_study.py")]
    return _run([*program, *words, "--runs-dir", "runs", "--export-dir", "experiments"], folder, "runs/studies.db")


def search_plainly(
    folder: Path, script: str, table: Path, words: Sequence[str], at_most_s: float | None = None
) -> Side:
    """A user's script; the words begin with the study's name. It is stopped after `at_most_s`, if given."""
    program = [sys.executable, str(Path(__file__).with_name(script))]
    return _run([*program, str(table), "study.db", *words], folder, "study.db", at_most_s)


def _run(words: Sequence[str], folder: Path, database: str, at_most_s: float | None = None) -> Side:
    """Run a program of one process, or one that ends all others, wait for all that it began, and read its study."""
    # Who outlives the program, such as the server of its children, becomes ours, with the time that it used.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("w") as output:
        began = time.time()
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        stop = threading.Timer(at_most_s or threading.TIMEOUT_MAX, os.kill, (process.pid, signal.SIGKILL))
        stop.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stop.cancel()
        stop.join()  # before the number may be another process's
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.time() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        is_stopped = at_most_s is not None and process.returncode == -signal.SIGKILL
    cpu_s = used.ru_utime + used.ru_stime
    while True:
        try:
            _, _, used = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu_s += used.ru_utime + used.ru_stime
    if process.returncode != 0 and not is_stopped:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{(folder / 'output.txt').read_text()}")
    return replace(_read(folder / database, began, wall_s, cpu_s), is_stopped=is_stopped)


def _read(database: Path, began: float, wall_s: float, cpu_s: float) -> Side:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
    trials = optuna.load_study(study_name=None, storage=storage).trials
    storage.engine.dispose()
    ended = sorted((trial for trial in trials if trial.state.is_finished()), key=_end_of)
    values: list[tuple[float, float]] = []
    for trial in ended:
        better = trial.state == TrialState.COMPLETE and trial.value is not None
        if better and (not values or trial.value > values[-1][1]):
            values.append((_end_of(trial) - began, trial.value))
    return Side(
        wall_s=wall_s,
        cpu_s=cpu_s,
        first_s=min(_seconds(trial.datetime_start) for trial in ended) - began,
        last_s=_end_of(ended[-1]) - began,
        n_trials=len(ended),
        n_epochs=sum(len(trial.intermediate_values) for trial in ended),
        values=tuple(values),
    )


def _end_of(trial: FrozenTrial) -> float:
    return _seconds(trial.datetime_complete)


def _seconds(at: datetime | None) -> float:
    assert at is not None
    return at.timestamp()
