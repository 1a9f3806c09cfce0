"""What ends a call before its budget is reached: Ctrl-C, SIGTERM, and the time it was given.

First Ctrl-C: finish the running trials, start none. Second, SIGTERM, or no time left: stop them and leave them to be
run again. Third: leave at once; a notebook, or a session of Python's, gets a KeyboardInterrupt.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def sigterm_raised(error: type[BaseException] = Terminated) -> Iterator[None]:
    """Raise an error inside this block when SIGTERM comes: once, which is enough to clean up."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise error

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Hurried(BaseException):
    """Somebody does not wait for what is still made."""


class Orders(Protocol):
    """What a worker is told, by people or by its supervisor."""

    @property
    def is_draining(self) -> bool:
        """Start no further trial."""

    @property
    def is_interrupted(self) -> bool:
        """Stop the running trial as well."""


class Signals:
    """What was asked for so far.

    `exit_status` is 0 until a signal came. `trials_are_over` is set once no trial runs any more. `on_signal` is called
    in the handler after each one and `on_leave` before the third Ctrl-C ends the process: a supervisor passes them on.

    Args:
        announce: Told what a signal does.
        deadline: From then on, by `time.monotonic()`, running trials are stopped and none is started.
        n_workers: For the words.
    """

    def __init__(self, announce: Callable[[str], None], *, deadline: float | None = None, n_workers: int = 1) -> None:
        self._announce = announce
        self._n_interrupts = 0
        self._deadline = deadline
        self._trials = "trial" if n_workers == 1 else "trials"
        self._may_leave = False
        self.exit_status = 0
        self.trials_are_over = False
        self.on_signal: Callable[[], None] = lambda: None
        self.on_leave: Callable[[], None] = lambda: None

    @property
    def is_timed_out(self) -> bool:
        """Whether the time of this call is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    @property
    def is_draining(self) -> bool:
        """Start no further trial."""
        return self.exit_status != 0 or self.is_timed_out

    @property
    def is_interrupted(self) -> bool:
        """Stop the running trial as well."""
        return self._n_interrupts >= 2 or self.exit_status == EXIT_TERMINATED or self.is_timed_out

    @property
    def is_hurried(self) -> bool:
        """Whether somebody who stopped the running trial does not wait for a report either."""
        return self.exit_status != 0 and self.is_interrupted

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals inside this block; where others than the main thread call, Python lets nobody do so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def until_hurried(self) -> Iterator[None]:
        """Inside this block, which makes what can be made again, a signal raises `Hurried`."""
        self._may_leave = True
        try:
            yield
        finally:
            self._may_leave = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._may_leave:
            self._may_leave = False
            self.exit_status = EXIT_TERMINATED if number == signal.SIGTERM else self.exit_status or EXIT_INTERRUPTED
            raise Hurried
        if number == signal.SIGTERM:
            self.exit_status = EXIT_TERMINATED
            self.on_signal()
            return
        self._n_interrupts += 1
        self.exit_status = self.exit_status or EXIT_INTERRUPTED
        if self._n_interrupts >= 3:
            self.on_leave()
            if hasattr(sys, "ps1"):  # a notebook, or Python's prompt: what else it holds is somebody's work
                raise KeyboardInterrupt
            os._exit(EXIT_INTERRUPTED)  # children see their pipes close and leave too
        self.on_signal()
        if self.trials_are_over:
            self._say("All trials have ended: what they came to is written, which takes seconds.")
            return
        them = "it" if self._trials == "trial" else "them"
        self._say(
            f"Finishing the running {self._trials}, then stopping; press Ctrl-C again to stop {them} now."
            if self._n_interrupts == 1
            else f"Stopping the running {self._trials}; the next call runs {them} again."
        )

    def _say(self, sentence: str) -> None:
        try:
            self._announce(sentence)
        except RuntimeError:  # the signal came while another sentence was written, which nobody may do at once
            with contextlib.suppress(OSError):
                os.write(2, f"{sentence}\n".encode())
