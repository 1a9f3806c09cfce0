"""Runs in child processes, so that a crash, a leak or a hang takes down one run and nothing else.

Children come from a forkserver that has torch and Lightning loaded. A child holds no database connection: it
sends what it finds through a pipe, reads one word ("stop") or another job from it, is born with the terminal's signals
blocked, and leaves when the pipe closes, because then its parent is gone.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Protocol

from datasets.common.errors import NotForTheseData, UserError
from search.machine import own_models
from search.machine.hardware import bound_to
from search.machine.interpreters import (
    LentForkserver,
    bind_forkserver,
    borrow_forkserver,
    guard_interpreters,
    make_socket_folder,
    without_program,
)
from search.machine.limits import LimitReached, check_open_files, limit_reached
from search.training.folds.forked import how_ended
from search.training.result import LOG
from search.workers.messages import Failure, Message

_STOP = "stop"
_CONTEXT = multiprocessing.get_context("forkserver")


Tell = Callable[[Message], None]
Job = Callable[[Tell, Callable[[], bool]], None]
"""What a child does: it tells its parent messages and asks whether it should stop."""


def prepare_children(lent: LentForkserver | None = None) -> None:
    """Start the forkserver in the background: loading torch and Lightning takes it seconds, and others' time.

    It ends with this process, at once even where it still loads. None is started where another process has `lent` its
    own, unless that ends.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        # Idle OpenMP threads spin for milliseconds by default and take the cores from whoever works: on a busy
        # machine an epoch took seven times as long. Not to spin at all makes it a quarter slower on an idle one.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    check_open_files()
    make_socket_folder()
    _CONTEXT.set_forkserver_preload(["search.workers.preload"])
    if lent is not None:
        borrow_forkserver(lent)
    else:
        with _signals_blocked():
            forkserver.ensure_running()
    bind_forkserver()


class Running(Protocol):
    """A job that goes on beside its caller."""

    def next_message(self, timeout_s: float) -> Message | None:
        """What it has to say next; None if it says nothing for `timeout_s`."""

    def stop(self) -> None:
        """Tell it to end its run; it still sends a result."""

    def close(self) -> None:
        """End it, if it still runs, and free what belongs to it."""


Start = Callable[[Job, Path], Running]
"""Starts a job with a folder for its files: `Child`, or `search.workers.inline.Inline`."""


class Child:
    """A job in a child process, whose output goes to `log.txt` in `directory`.

    One that has ended may be followed by another job (see `search.workers.reused`).
    """

    def __init__(self, job: Job, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._pipe, child_pipe = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_work,
            args=(child_pipe, job, directory, own_models.in_use(), bound_to()),
            daemon=True,
            name="flipsearch run",
        )
        try:
            try:
                self._begin()
            except (ConnectionError, EOFError):  # the forkserver was just ended, of too little memory perhaps
                self._begin()
        except (ConnectionError, EOFError) as error:  # it ended before it answered, however often it is started
            raise limit_reached(error) or LimitReached(
                f"No process to train in could be started: the one of {sys.executable} that starts them ended at "
                "once. See whether this user may run it, and what it printed above; then repeat the command."
            ) from None
        child_pipe.close()

    def _begin(self) -> None:
        with _signals_blocked(), without_program():  # the forkserver may have to be started again
            self._process.start()

    def give(self, job: Job, directory: Path) -> None:
        """Let it do another job, its first one having ended.

        Raises:
            OSError: It is gone.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._pipe.send((job, directory))
        self.directory = directory

    def next_message(self, timeout_s: float) -> Message | None:
        """What the child has to say next; None if it says nothing for `timeout_s`."""
        if not wait_for([self._pipe], timeout_s):
            return None
        try:
            message: Message = self._pipe.recv()
        except (EOFError, OSError):  # the latter where it ended amid a message
            self._process.join(10)
            how = how_ended(self._process.exitcode)
            last = f"the training process ended {how}; its output is in {self.directory / LOG}"
            return Failure(kind="lost", message=last)
        return message

    def stop(self) -> None:
        """Tell the child to end its run; it still sends a result."""
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._pipe.send(_STOP)

    def close(self) -> None:
        """End the child now, if it still runs, and free what belongs to it."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


def _work(
    pipe: Connection, job: Job, directory: Path, models: own_models.OwnModels | None, bound: Mapping[str, str]
) -> None:
    """The child's main function: a job, and those that follow."""
    os.environ.update(bound)  # its server may be another process's than its parent's
    own_models.use(models)  # as its parent read them, whatever stands in the files by now
    stop = threading.Event()
    jobs: queue.SimpleQueue[tuple[Job, Path]] = queue.SimpleQueue()
    jobs.put((job, directory))
    threading.Thread(target=_listen, args=(pipe, stop, jobs), daemon=True).start()
    while True:
        _do(*jobs.get(), pipe, stop)
        with contextlib.suppress(OSError):  # so that the memory that the next job is seen to have held is its own
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _do(job: Job, directory: Path, pipe: Connection, stop: threading.Event) -> None:
    try:
        redirect_output(directory / LOG)
        job(pipe.send, stop.is_set)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        pipe.send(failure_of(error))
        if not isinstance(error, UserError):
            with contextlib.suppress(OSError):  # the disk may be full
                traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()


def failure_of(error: BaseException) -> Failure:
    """What a job's exception means."""
    if isinstance(error, UserError):
        known = type(error) if isinstance(error, NotForTheseData) else UserError
        return Failure(kind="refused", message=str(error), error=known)
    return Failure(kind="bug", message="".join(traceback.format_exception(error)))


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started inside this block never see Ctrl-C or SIGTERM; ours arrive when it ends."""
    guard_interpreters()
    resource_tracker.ensure_running()  # started by others' starting, it would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(pipe: Connection, stop: threading.Event, jobs: "queue.SimpleQueue[tuple[Job, Path]]") -> None:
    try:
        while True:
            word = pipe.recv()
            if word == _STOP:
                stop.set()
            else:
                jobs.put(word)
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone: nobody wants the result


def redirect_output(path: Path) -> None:
    """Send everything that the child prints, C libraries included, to a file: the terminal shows the study."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
