"""Runs in child processes, so that a crash, a leak or a hang takes down one run and nothing else.

Children come from a forkserver that has torch and Lightning loaded. A child holds no database connection: it
sends what it finds through a pipe, reads one word ("stop") from it, is born with the terminal's signals blocked,
and leaves when the pipe closes, because then its parent is gone.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Literal

from datasets.errors import UserError
from search.result import Result
from search.schema import RunConfig

LOG = "log.txt"
_ROOT = Path(__file__).parent.parent
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, kw_only=True)
class Value:
    """The validation Spearman after an epoch of a fold."""

    fold: int
    epoch: int
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The run ended without a result.

    `bug`: an exception, `message` its traceback; `lost`: the process died; `refused`: the config cannot run here,
    `message` says why in a sentence.
    """

    kind: Literal["bug", "lost", "refused"]
    message: str


Message = Value | Result | Failure


def prepare_children() -> None:
    """Start the forkserver in the background: loading torch and Lightning takes it seconds, and others' time."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Idle OpenMP threads spin for milliseconds by default and take the cores from whoever works: on a busy
        # machine an epoch took seven times as long. Not to spin at all makes it a quarter slower on an idle one.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # The forkserver looks modules up from its own start directory, which need not be the checkout.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    _CONTEXT.set_forkserver_preload(["search.preloaded"])
    with _signals_blocked():
        forkserver.ensure_running()


class IsolatedRun:
    """`fit` in a child process.

    Args:
        config: The run.
        split: Path of the prepared split.
        directory: For checkpoints and the child's output (`log.txt`).
    """

    def __init__(self, config: RunConfig, split: Path, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._pipe, child_pipe = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_run, args=(child_pipe, config, split, directory), daemon=True, name="flipsearch run"
        )
        with _signals_blocked():  # the forkserver may have to be started again
            self._process.start()
        child_pipe.close()

    def next_message(self, timeout_s: float) -> Message | None:
        """What the child has to say next; None if it says nothing for `timeout_s`."""
        if not wait_for([self._pipe], timeout_s):
            return None
        try:
            message: Message = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(10)
            return Failure(kind="lost", message=self._last_words())
        return message

    def stop(self) -> None:
        """Tell the child to end its run; it still sends a result."""
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._pipe.send("stop")

    def close(self) -> None:
        """End the child now, if it still runs, and free what belongs to it."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()

    def _last_words(self) -> str:
        code = self._process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit status {code}"
        return f"the training process ended {how}; its output is in {self.directory / LOG}"


def _run(pipe: Connection, config: RunConfig, split: Path, directory: Path) -> None:
    """The child's main function."""
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, stop), daemon=True).start()
    _redirect_output(directory / LOG)
    from datasets.prepared import load_prepared
    from search.training import fit

    try:
        result = fit(
            config,
            load_prepared(split),
            directory=directory,
            report=lambda fold, epoch, value: pipe.send(Value(fold=fold, epoch=epoch, value=value)),
            should_stop=stop.is_set,
        )
        pipe.send(result)
    except BrokenPipeError:
        os._exit(1)
    except UserError as error:
        pipe.send(Failure(kind="refused", message=str(error)))
    except Exception:
        traceback.print_exc()
        pipe.send(Failure(kind="bug", message=traceback.format_exc()))


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started inside this block never see Ctrl-C or SIGTERM; ours arrive when it ends."""
    resource_tracker.ensure_running()  # started by others' starting, it would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(pipe: Connection, stop: threading.Event) -> None:
    try:
        while True:
            pipe.recv()
            stop.set()
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone: nobody wants the result


def _redirect_output(path: Path) -> None:
    """Send everything that the child prints, C libraries included, to a file: the terminal shows the study."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(path, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
