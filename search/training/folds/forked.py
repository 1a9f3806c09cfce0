"""A process forked from this one, which has all that this one has loaded, and says things through a pipe."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>

Say = Callable[[Any], None]
"""Sends something to the process that this one was forked from."""


class ProcessLost(Exception):
    """A process that trained ended before it had said all; the message says how."""


class FoldBroke(Exception):
    """An exception in a fold's process, which ended by it; the message is its traceback.

    No RuntimeError, of which some are told by their text to be a lack of memory: a traceback may quote anything.
    """


class TooManyAtOnce(Exception):
    """Memory or processes ran out while folds trained side by side: it says nothing of one that trains alone."""


class CannotFork(Exception):
    """The machine gives no more processes, or no memory for one; the message is the system's."""


def can_fork() -> bool:
    """Whether processes can be forked that surely end with their parent."""
    return sys.platform == "linux"


class Forked:
    """Work in a forked process; it is killed where the thread that forked it ends, however that comes.

    To be used before this process has computed on several threads: those of OpenMP are not there after a fork, and who
    waits for them waits for ever.

    Attributes:
        pipe: What was said can be read from it.
        peak_memory_bytes: The most that it held, once it has ended.

    Raises:
        CannotFork: There is no process to be had.
    """

    def __init__(self, work: Callable[[Say], None]) -> None:
        self.pipe, theirs = Pipe(duplex=False)
        self.peak_memory_bytes = 0
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self.pipe.close()
            theirs.close()
            raise CannotFork(error.strerror) from None
        if pid == 0:
            _work(work, theirs, parent)
        self.pid: int | None = pid
        theirs.close()

    def end(self) -> None:
        """Kill it, if it still runs, and wait until it has ended."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGKILL)  # nobody else waits for it, so that its number is its own until we have
        self.wait()

    def wait(self) -> int:
        """Wait until it has ended; its exit status, negative where a signal ended it."""
        assert self.pid is not None
        _, status, usage = os.wait4(self.pid, 0)
        self.pid = None
        self.peak_memory_bytes = usage.ru_maxrss * 1024
        self.pipe.close()
        return os.waitstatus_to_exitcode(status)


def how_ended(exit_code: int | None) -> str:
    """`by signal 9`, or `with exit status 1`: how a process ended, in words."""
    return f"by signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"with exit status {exit_code}"


def _work(work: Callable[[Say], None], pipe: Connection, parent: int) -> NoReturn:
    status = 1
    try:
        gc.freeze()  # to look for garbage among what the parent has would give us a copy of all of it
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() == parent:  # else it was gone before we asked
            work(pipe.send)
            status = 0
    except BaseException:  # whatever it is, nothing of the parent's program may run here
        traceback.print_exc()
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # the disk of the log may be full
                    stream.flush()
        finally:
            os._exit(status)
