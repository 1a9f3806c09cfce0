"""A run in the calling process instead of a child: for a debugger, for tests, and for notebooks that look inside.

What a child process protects from is not protected from here: a crash ends the caller, a hang is not ended, memory is
not given back. A breakpoint works, nothing waits for a process to start, and the caller's own random numbers go on as
if nothing had been drawn between.
"""

import contextlib
import os
import queue
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from search.workers.child import Child, Job, Start, failure_of
from search.workers.messages import Message
from search.workers.slots import Executor

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_TURN = threading.Lock()  # a run's random numbers and settings are the whole process's: searches in threads take turns


class Inline:
    """A job in a thread of this process."""

    def __init__(self, job: Job, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(job,), daemon=True, name="flipsearch run")
        self._thread.start()

    def next_message(self, timeout_s: float) -> Message | None:
        """What the job has to say next; None if it says nothing for `timeout_s`."""
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Tell the job to end at the end of its epoch; it still sends a result."""
        self._stop.set()

    def close(self) -> None:
        """Tell the job to end, and wait until it has."""
        self._stop.set()
        self._thread.join()

    def _work(self, job: Job) -> None:
        try:
            from search.training.seeding import random_state_kept  # loads torch, which who starts children does without

            with _TURN, random_state_kept(), _settings_kept():
                job(self._messages.put, self._stop.is_set)
        except BaseException as error:  # a model that leaves by `sys.exit` leaves a thread alone
            self._messages.put(failure_of(error))


@contextlib.contextmanager
def _settings_kept() -> Iterator[None]:
    """Give the caller back what training sets for a whole process: torch's threads and algorithms, and warnings."""
    import torch

    threads, fills = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    is_on, is_mild = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_WORKSPACE)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_on, warn_only=is_mild)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        os.environ.pop(_WORKSPACE, None)
        if workspace is not None:
            os.environ[_WORKSPACE] = workspace


def starter(executor: Executor) -> Start:
    """What starts a run."""
    return Inline if executor == "inline" else Child
