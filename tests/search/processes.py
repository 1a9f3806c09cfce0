"""Start the program as a user does, and find and signal its processes."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from tests.search.answers import Answer, run_here

ROOT = Path(__file__).parents[2]
# Some seconds a trial: long enough to be hit at every stage, short enough to be repeated.
STUDY = "faults"
SEARCH = [
    "--task",
    "synthetic_two_vs_rest",
    "--model",
    "cnn",
    "--study-name",
    STUDY,
    "--export-dir",
    "experiments",
    "validation=holdout",
]
SHORT = ["trainer.max_epochs=15", "trainer.patience=15", "model.depth=1", "space.model.channels.high=24", "pruner=nop"]


def start(folder: Path, n_trials: int, *more: str) -> subprocess.Popen[str]:
    """A search in a process group of its own, Ctrl-C handled as in a terminal."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_study.py"), *SEARCH, "--n-trials", str(n_trials), *SHORT, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def search_here(folder: Path, n_trials: int, *more: str) -> Answer:
    """The same search in this process."""
    return run_here(*SEARCH, "--n-trials", str(n_trials), *SHORT, *more, cwd=folder)


def finish(process: subprocess.Popen[str], timeout_s: float = 240) -> tuple[int, str]:
    """Exit status and output."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)
        raise
    return process.returncode, output


def signal_group(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the search, its forkserver and its training child alike, as a terminal does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def training_child(process: subprocess.Popen[str]) -> int | None:
    """The process that trains: a child of the search's forkserver."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == process.pid and fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    grandchildren = [pid for pid, parent in parents.items() if parents.get(parent) == process.pid and _trains(pid)]
    return min(grandchildren, default=None)


def _trains(pid: int) -> bool:
    """Whether its output goes to a trial's log: the child that checks the space trains nothing."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink().parent.name.startswith("trial-")
    except OSError:
        return False


def wait_for_child(process: subprocess.Popen[str], timeout_s: float = 60) -> int:
    """Wait until a trial trains."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        pid = training_child(process)
        if pid is not None:
            return pid
        time.sleep(0.02)
    raise AssertionError(f"no training process appeared: {finish(process)}")


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The workers of a fleet: processes that its supervisor spawned."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return sorted(found)


def members(process: subprocess.Popen[str]) -> list[int]:
    """All living processes of a search, whoever started them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def trials(folder: Path) -> list[FrozenTrial]:
    """The study's trials, none while there is no study yet."""
    database = folder / "runs" / "studies.db"
    if not _has_study(database):  # Optuna would make what it does not find, beside the search that does
        return []
    return optuna.load_study(study_name=STUDY, storage=f"sqlite:///{database}").trials


def _has_study(database: Path) -> bool:
    if not database.exists():
        return False
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return bool(connection.execute("SELECT 1 FROM studies WHERE study_name = ?", [STUDY]).fetchall())
    except sqlite3.OperationalError:  # it is being made
        return False
    finally:
        connection.close()


def wait_until(process: subprocess.Popen[str], is_so: Callable[[], bool], timeout_s: float = 120) -> None:
    """Wait for something that a search does."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            signal_group(process, signal.SIGKILL)
            raise AssertionError(f"it did not come to it: {finish(process)}")
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def status(folder: Path) -> dict[str, Any]:
    """What the status command says of the study."""
    answer = run_here("status", "--study-name", STUDY, "--json", cwd=folder)
    assert answer.status == 0, answer
    found: dict[str, Any] = json.loads(answer.out)
    return found
