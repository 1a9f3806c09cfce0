"""A worker as a process of its own, and what it tells its supervisor.

It is told by signals: SIGUSR1 to finish its trial and leave, SIGTERM to leave its trial to be run again. Ctrl-C goes
to a terminal's whole foreground group and is the supervisor's to count. The pipe between them carries what the worker
has to say; that it closes tells each that the other is gone.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.machine import own_models
from search.machine.interpreters import LentForkserver
from search.storage.lease_policy import USUAL_LEASE, LeasePolicy
from search.storage.outages import StorageLost
from search.workers.child import prepare_children, redirect_output
from search.workers.display import Display
from search.workers.messages import Announcement, Working
from search.workers.slots import THIS_PROCESS, Slot
from search.workers.worker import TooManyFailures, Worker

DRAIN = signal.SIGUSR1
STOP = signal.SIGTERM
TOLD_BY = (signal.SIGINT, STOP, DRAIN)
STOP_S = 8.0
"""How long a worker that has to stop may take to say so in the database."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a worker works on; it reaches the process through a pipe, since the URL may hold a password.

    `make_worker` wants the rest: study, database, signals, display and artifacts.
    """

    url: str
    runs: Path
    study: str
    keep_top: int
    make_worker: Callable[..., Worker]
    lease: LeasePolicy = USUAL_LEASE
    artifacts: str | None = None
    number: int = 0
    slot: Slot = THIS_PROCESS

    @property
    def log(self) -> Path:
        """Where the worker's output goes."""
        return self.runs / self.study / f"worker-{self.number}.txt"


class Step(Enum):
    """Where a worker's trial is."""

    BEGAN = "began"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Waits:
    """The worker has nothing to do for the reason in `sentence`."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """The worker's last word; `failure` is which of `FAILURES` ended it, None where nothing is left to do."""

    failure: int | None = None
    message: str = ""
    exit_status: int | None = None

    @classmethod
    def of(cls, error: Exception) -> "Done":
        """That an error, one of `FAILURES`, ended it."""
        failure = next(i for i, kind in enumerate(FAILURES) if isinstance(error, kind))
        return cls(failure=failure, message=str(error), exit_status=getattr(error, "exit_status", None))

    @property
    def error(self) -> Exception | None:
        """What ended it, with the exit status of the error itself, whose class may be one of its own."""
        if self.failure is None:
            return None
        found = FAILURES[self.failure](self.message)
        if self.exit_status is not None and isinstance(found, UserError):
            found.exit_status = self.exit_status
        return found


FAILURES = (TooManyFailures, StorageLost, UserError)
"""What ends all workers; the first that an error is one of."""
Report = Announcement | Working | Step | Waits | Done


def run_worker(
    assignment: Assignment,
    pipe: Connection,
    models: own_models.OwnModels | None,
    lent: LentForkserver | None = None,
) -> None:
    """The main function of a worker's process; it is born with the signals in TOLD_BY blocked.

    Its children come from a forkserver that was `lent` to it, or from one of its own.
    """
    own_models.use(models)
    redirect_output(assignment.log)
    told = _Told()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(STOP, told.stop)
    signal.signal(DRAIN, told.drain)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD_BY)
    threading.Thread(target=_watch, args=(pipe, told), daemon=True).start()
    assignment.slot.occupy()
    if not told.is_draining:  # as it is when people change their minds while workers start
        prepare_children(lent)
    display = _PipeDisplay(pipe)
    try:
        _work(assignment, told, display)
        last = Done()
    except FAILURES as error:
        last = Done.of(error)
    if not told.is_interrupted:  # a worker that was stopped has nothing to say of the study
        display.send(last)
    pipe.close()
    if told.is_interrupted:
        sys.exit(128 + STOP)


def _work(assignment: Assignment, told: "_Told", display: Display) -> None:
    from search.storage.database import open_database
    from search.study.artifact_store import study_artifacts
    from search.study.study import find_study

    database = open_database(
        assignment.url,
        create=False,
        announce=display.announce,
        is_interrupted=lambda: told.is_interrupted,
        lease=assignment.lease,
    )
    study = find_study(database, assignment.study)
    worker = assignment.make_worker(
        study=study,
        database=database,
        signals=told,
        display=display,
        artifacts=study_artifacts(
            assignment.runs / assignment.study, assignment.keep_top, display.announce, assignment.artifacts
        ),
        slot=assignment.slot,
    )
    with database.guarded(assignment.study):
        worker.work()


class _Told:
    """What the supervisor said so far."""

    def __init__(self) -> None:
        self.is_draining = False
        self.is_interrupted = False

    def drain(self, *_: int | FrameType | None) -> None:
        self.is_draining = True

    def stop(self, *_: int | FrameType | None) -> None:
        self.is_draining = self.is_interrupted = True


def _watch(pipe: Connection, told: _Told) -> None:
    """Leave when the supervisor is gone: nobody would start, stop or count this worker any more."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    told.stop()
    time.sleep(STOP_S)
    os._exit(1)  # the database does not answer, say: the trial is run again once its lease has expired


class _PipeDisplay(Display):
    """Tells the supervisor, which reads how trials end from the study."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()  # a heartbeat's thread has something to say too when the database is away

    def send(self, report: Report) -> None:
        """Tell the supervisor, if there still is one."""
        with contextlib.suppress(OSError), self._lock:
            self._pipe.send(report)

    def announce(self, sentence: str) -> None:
        self.send(Announcement(sentence=sentence))

    def start(self, number: int) -> None:
        self.send(Step.BEGAN)

    def working(self, what: str, n_done: int, n_total: int) -> None:
        self.send(Working(what=what, n_done=n_done, n_total=n_total))

    def end(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        self.send(Step.ENDED)

    def wait(self, sentence: str) -> None:
        self.send(Waits(sentence=sentence))
