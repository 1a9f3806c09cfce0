"""Start the program as a user does, and find and signal its processes."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.training.predictions import VALIDATION
from tests.helpers.answers import Answer, run_here

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
# Nothing here is to be quick; it only has to end when something is broken.
WAIT_S = 300.0
# More trials than any machine ends while a test looks for one of them, and an epoch count that none reaches.
MANY = 2000
LONG = ("trainer.max_epochs=100000", "trainer.patience=100000")
SHORT = ["trainer.max_epochs=15", "trainer.patience=15", "model.depth=1", "space.model.channels.high=24", "pruner=nop"]


class Search(subprocess.Popen[str]):
    """A search in a process group of its own, Ctrl-C handled as in a terminal. It can be heard while it runs."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._output = os.memfd_create("output")
        weakref.finalize(self, os.close, self._output)
        super().__init__(
            command,
            cwd=folder,
            env=environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __del__(self, *more: Any) -> None:
        """End it, where its test has failed: it might go on for long."""
        if getattr(self, "pid", None) is not None and self.poll() is None:  # once reaped its number may be another's
            signal_group(self, signal.SIGKILL)
        super().__del__(*more)  # type: ignore[misc]  # as it keeps those that go on, to reap them

    def said(self) -> str:
        """Its output so far."""
        return os.pread(self._output, os.fstat(self._output).st_size, 0).decode(errors="replace")


def start(folder: Path, n_trials: int, *more: str) -> Search:
    """Begin the search for `n_trials`."""
    return Search([sys.executable, str(ROOT / "run_study.py"), *_words(n_trials), *more], folder)


def search_here(folder: Path, n_trials: int, *more: str) -> Answer:
    """The same search in this process."""
    return run_here(*_words(n_trials), *more, cwd=folder)


def start_with_short_lease(folder: Path, n_trials: int, *more: str) -> Search:
    """Begin the search for `n_trials` with leases of seconds."""
    return Search([*with_short_lease(ROOT), *_words(n_trials), *more], folder)


def with_short_lease(checkout: Path) -> list[str]:
    """The command that is run_study.py of a checkout, with leases of seconds."""
    return [sys.executable, "-P", str(ROOT / "tests" / "helpers" / "short_leases.py"), str(checkout)]


def _words(n_trials: int) -> list[str]:
    return [*SEARCH, "--n-trials", str(n_trials), *SHORT]


def finish(process: Search, timeout_s: float = WAIT_S) -> tuple[int, str]:
    """Exit status and output."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)
        raise AssertionError(f"it does not end: {process.said()}") from None
    return process.returncode, process.said()


def signal_group(process: Search, number: int) -> None:
    """Send a signal to the search, its forkserver and its training child alike, as a terminal does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def interrupt(process: Search, answer: str) -> None:
    """Press Ctrl-C and wait until the search answers, or ends: to the system two that come at once are one."""
    signal_group(process, signal.SIGINT)
    deadline = time.monotonic() + WAIT_S
    while answer not in process.said() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def training_child(process: Search) -> int | None:
    """The process that trains, of a fleet's the first one: a child of a forkserver."""
    return min(training_children(process), default=None)


def training_children(process: Search) -> list[int]:
    """All of them."""
    return [pid for pid in members(process) if trial_of(pid) is not None]


def trial_of(pid: int) -> int | None:
    """The trial to whose log the process prints: the child that checks the space trains nothing."""
    try:
        name = Path(f"/proc/{pid}/fd/1").readlink().parent.name
    except OSError:
        return None
    return int(name.removeprefix("trial-")) if name.startswith("trial-") else None


def parent(pid: int) -> int:
    """The process that started it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for_child(process: Search, timeout_s: float = WAIT_S) -> int:
    """Wait until a trial trains."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        pid = training_child(process)
        if pid is not None:
            return pid
        time.sleep(0.02)
    signal_group(process, signal.SIGKILL)
    raise AssertionError(f"no training process appeared: {finish(process)}")


def hold_child(process: Search) -> int:
    """Wait until a trial trains and let its process stand still: however long the test takes, that trial runs."""
    return hold_children(process, 1)[0]


def hold_children(process: Search, n: int) -> list[int]:
    """The same of `n` trials, each of another worker: all of them train at once."""
    held: list[int] = []
    while len(held) < n:
        wait_for_child(process)
        for pid in set(training_children(process)) - set(held):
            if stands_before_its_end(pid):
                held.append(pid)
            else:
                let_go(pid)
        time.sleep(0.02)
    return held


def stands_before_its_end(pid: int) -> bool:
    """Stop a process that trains; whether its trial has no result yet, which its worker would take all the same."""
    try:
        os.kill(pid, signal.SIGSTOP)
        while is_alive(pid) and _state(pid) != "T":
            time.sleep(0.001)
        folder = Path(f"/proc/{pid}/fd/1").readlink().parent
    except OSError:
        return False
    return is_alive(pid) and not (folder / VALIDATION).exists()


def let_go(pid: int) -> None:
    """End what `hold_child` and `stands_before_its_end` began."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def workers(process: Search) -> list[int]:
    """The workers of a fleet: processes that its supervisor spawned."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return sorted(found)


def worker_of(folder: Path, child: int) -> int:
    """The worker whose trial a process trains."""
    number = trial_of(child)
    assert number is not None
    return int(trials(folder)[number].user_attrs["worker"].rpartition(":")[2])


def members(process: Search) -> list[int]:
    """All living processes of a search, whoever started them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == process.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def trials(folder: Path, name: str = STUDY) -> list[FrozenTrial]:
    """The study's trials, none while there is no study yet."""
    database = folder / "runs" / "studies.db"
    if not _has_study(database, name):  # Optuna would make what it does not find, beside the search that does
        return []
    return optuna.load_study(study_name=name, storage=f"sqlite:///{database}").trials


def _has_study(database: Path, name: str) -> bool:
    if not database.exists():
        return False
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return bool(connection.execute("SELECT 1 FROM studies WHERE study_name = ?", [name]).fetchall())
    except sqlite3.OperationalError:  # it is being made
        return False
    finally:
        connection.close()


def wait_until(process: Search, is_so: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something that a search does; it may have ended since."""
    deadline = time.monotonic() + timeout_s
    while True:
        was_last = process.poll() is not None or time.monotonic() > deadline  # before it is asked what there is
        if is_so():
            return
        if was_last:
            signal_group(process, signal.SIGKILL)
            raise AssertionError(f"it did not come to it: {finish(process)}")
        time.sleep(0.1)


def is_gone_within(pid: int, timeout_s: float) -> bool:
    """Whether a process ends in time that would otherwise live on, stand still or train, for far longer."""
    deadline = time.monotonic() + timeout_s
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return _state(pid) != "Z"
    except OSError:
        return False


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def status(folder: Path) -> dict[str, Any]:
    """What the status command says of the study."""
    answer = run_here("status", "--study-name", STUDY, "--json", cwd=folder)
    assert answer.status == 0, answer
    found: dict[str, Any] = json.loads(answer.out)
    return found
