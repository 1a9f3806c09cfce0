"""The fault matrix: two workers on Postgres, one fault at a known moment, and the budget is met exactly.

Every row ends with exactly the budget of finished trials, none RUNNING, none counted twice, and the best one exported.
The making of the tables has a matrix of its own in test_creation.py: a kill at every statement.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.helpers.postgres import PostgresServer
from tests.helpers.processes import ROOT, is_alive, with_short_lease
from tests.helpers.short_leases import SHORT_LEASE

pytestmark = pytest.mark.timeout(1200)
N_TRIALS = 6
STUDY = "matrix"
MODEL = '''
import multiprocessing
import os
import time

import torch

from models.bounds import PositiveFloat
from models.fitness_model import FitnessModel


def say(phase):
    """What this process of a worker does now; whoever waits for the moment holds it there."""
    phases = os.environ["FLIPSEARCH_TEST_PHASES"]
    with open(phases, "a") as file:
        file.write(f"{os.getpid()} {multiprocessing.parent_process().pid} {phase}\\n")
    time.sleep(0.15)
    while read(f"{phases}.held") == phase and read(phases).count(f" {phase}\\n") >= 3:
        time.sleep(0.05)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


class Phased(FitnessModel):
    def __init__(self, *, lr: PositiveFloat):
        super().__init__()
        self.lr = lr
        self.table = torch.nn.Embedding(self.tokenizer.n_tokens, 1)

    def on_train_epoch_start(self):
        say("training")

    def on_validation_epoch_start(self):
        say("validation")

    def trained_state(self):
        say("checkpoint")
        return super().trained_state()

    def forward(self, batch):
        return self.table(batch.tokens).squeeze(-1).masked_fill(~batch.mask, 0).sum(1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with a model that says what it does."""
    folder = tmp_path_factory.mktemp("matrix checkout")
    for name in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "models" / "phased.py").write_text(MODEL)
    (folder / "studies" / "model" / "phased.yaml").write_text("_target_: models.phased.Phased\nlr: 0.01\n")
    space = "model: {lr: {type: float, low: 1.0e-3, high: 0.1, log: true}}\n"
    (folder / "studies" / "space" / "phased.yaml").write_text(space)
    return folder


@dataclass(kw_only=True)
class Fleet:
    """One command with two workers, in a process group of its own."""

    checkout: Path
    folder: Path
    url: str
    postgres: PostgresServer
    has_short_lease: bool = True
    engine: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None

    @property
    def phases(self) -> Path:
        return self.folder / "phases"

    @property
    def held(self) -> Path:
        return self.folder / "phases.held"

    def start(self, n_workers: int = 2) -> None:
        self.phases.write_text("")
        environment = {**os.environ, "FLIPSEARCH_STORAGE": self.url, "FLIPSEARCH_TEST_PHASES": str(self.phases)}
        words = [
            "--task",
            "synthetic_one_vs_rest",
            "--model",
            "phased",
            "--n-trials",
            str(N_TRIALS),
            "--workers",
            str(n_workers),
            "validation=holdout",
            *self.engine,
        ]
        limits = ["trainer.max_epochs=3", "trainer.threads=1", "pruner=nop", "logger=none", "sampler=random"]
        real = [sys.executable, str(self.checkout / "run_study.py")]
        program = with_short_lease(self.checkout) if self.has_short_lease else real
        self.process = subprocess.Popen(
            [*program, *words, "--study-name", STUDY, *limits],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def go_on(self) -> None:
        """Let nobody stand in the phase that was waited for any more."""
        self.held.unlink(missing_ok=True)

    def finish(self) -> tuple[int, str]:
        assert self.process is not None
        self.go_on()
        output, _ = self.process.communicate(timeout=500)
        return self.process.returncode, output

    def signal_all(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait_for(self, phase: str, n_before: int = 3) -> int:
        """Wait until a training process is in that phase for the `n_before`-th time, and stands there; its process."""
        self.held.write_text(phase)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            found = [line.split()[0] for line in self.phases.read_text().splitlines() if line.endswith(f" {phase}")]
            if len(found) >= n_before and is_alive(int(found[-1])):
                return int(found[-1])
            time.sleep(0.01)
        raise AssertionError(f"no {phase}: {self.finish()}")

    def worker(self) -> int:
        """One of the supervisor's workers: the one that has a training process."""
        child = self.wait_for("training")
        lines = map(str.split, self.phases.read_text().splitlines())
        return next(int(worker) for pid, worker, _ in lines if int(pid) == child)


@pytest.fixture
def fleet(checkout: Path, tmp_path: Path, postgres: PostgresServer) -> Iterator[Fleet]:
    fleet = Fleet(checkout=checkout, folder=tmp_path, url=postgres.url(postgres.create_database()), postgres=postgres)
    yield fleet
    fleet.signal_all(signal.SIGKILL)


def used_s(pid: int) -> float:
    """The time that a process has had of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kill_child(fleet: Fleet) -> None:
    os.kill(fleet.wait_for("training"), signal.SIGKILL)


def kill_worker(fleet: Fleet) -> None:
    os.kill(fleet.worker(), signal.SIGKILL)


def kill_supervisor(fleet: Fleet) -> None:
    fleet.wait_for("training")
    assert fleet.process is not None
    fleet.process.kill()


def kill_all(fleet: Fleet) -> None:
    fleet.wait_for("checkpoint")
    fleet.signal_all(signal.SIGKILL)


def at_start_up(number: int) -> Callable[[Fleet], None]:
    def fault(fleet: Fleet) -> None:
        assert fleet.process is not None
        # Not while Python itself starts, which is not ours and on a slow machine takes its time.
        while used_s(fleet.process.pid) < 0.5 and fleet.process.poll() is None:
            time.sleep(0.05)
        time.sleep(1.0)
        fleet.signal_all(number)

    return fault


def during(phase: str, number: int, times: int = 1) -> Callable[[Fleet], None]:
    def fault(fleet: Fleet) -> None:
        fleet.wait_for(phase)
        for _ in range(times):
            fleet.signal_all(number)
            time.sleep(0.4)

    return fault


def stop_database(fleet: Fleet) -> None:
    fleet.wait_for("training")
    fleet.postgres.stop()
    fleet.go_on()
    time.sleep(SHORT_LEASE.lease_s + 1)
    fleet.postgres.start()


def crash_database(fleet: Fleet) -> None:
    fleet.wait_for("training")
    fleet.postgres.crash()
    fleet.go_on()
    time.sleep(1)
    fleet.postgres.start(wait=False)


def suspend_worker(fleet: Fleet) -> None:
    pid = fleet.worker()
    os.kill(pid, signal.SIGSTOP)
    fleet.go_on()
    time.sleep(SHORT_LEASE.lease_s + 3)
    os.kill(pid, signal.SIGCONT)


TERM, INT = signal.SIGTERM, signal.SIGINT
MATRIX = {
    "crash the database": crash_database,
    "kill a worker": kill_worker,
    "kill a training child": kill_child,
    "kill the supervisor": kill_supervisor,
    "kill all": kill_all,
    "terminate at start-up": at_start_up(TERM),
    "interrupt at start-up": at_start_up(INT),
    "terminate in training": during("training", TERM),
    "terminate in validation": during("validation", TERM),
    "terminate while writing a checkpoint": during("checkpoint", TERM),
    "interrupt in training": during("training", INT),  # which the child that trains never sees, whatever it does
    "interrupt twice in training": during("training", INT, times=2),
    "stop the database for longer than a lease": stop_database,
    "suspend a worker past its lease": suspend_worker,
}
# Nobody has to come back for these: the call itself goes on to its end.
SURVIVED = (
    *("kill a training child", "kill a worker", "crash the database"),
    "stop the database for longer than a lease",
)


def check(fleet: Fleet) -> None:
    """The budget exactly, nothing RUNNING, nothing counted twice, and the best one exported."""
    storage = optuna.storages.RDBStorage(fleet.url)
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(finished) == N_TRIALS
    assert not [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    origins = []
    for trial in finished:
        origin = trial
        while "retry_of" in origin.user_attrs:
            origin = trials[origin.user_attrs["retry_of"]]
        origins.append(origin.number)
    assert len(set(origins)) == N_TRIALS, "a trial and its repetition were both counted"
    assert (fleet.folder / "studies" / "experiment" / f"{STUDY}.yaml").is_file()


@pytest.mark.parametrize("name", MATRIX)
def test_the_budget_is_exact_after_a_fault(name: str, fleet: Fleet) -> None:
    go_through(name, fleet)


def go_through(name: str, fleet: Fleet) -> None:
    """A search, the fault in it, and the search that comes after it."""
    fleet.has_short_lease = "start-up" not in name  # which is run_study.py's own
    fleet.start()
    MATRIX[name](fleet)
    status, output = fleet.finish()
    if name in SURVIVED:
        assert status == 0, output
        check(fleet)
    if status >= 0:
        assert "Traceback" not in output
    fleet.engine = ()
    fleet.start(n_workers=1)  # one finds as well as two what there is to do
    status, output = fleet.finish()
    assert status == 0, output
    check(fleet)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full at once; skipped where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_the_study_and_loses_nothing(
    checkout: Path, small_disk: Path, postgres: PostgresServer
) -> None:
    url = postgres.url(postgres.create_database())
    fleet = Fleet(checkout=checkout, folder=small_disk, url=url, postgres=postgres)
    fleet.start()
    fleet.wait_for("training")
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    status, output = fleet.finish()
    assert status in (1, 2), output
    assert "Traceback" not in output
    assert "disk" in output.lower() or "space" in output.lower()
    filler.unlink()
    fleet.start(n_workers=1)
    status, output = fleet.finish()
    assert status == 0, output
    check(fleet)
