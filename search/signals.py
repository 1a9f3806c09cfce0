"""What Ctrl-C and SIGTERM mean while a study runs.

First Ctrl-C: finish the running trial, start none. Second, or SIGTERM: stop the trial and leave it to be run
again. Third: leave at once.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class Signals:
    """What was asked for so far. `exit_status` is 0 until a signal came."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._n_interrupts = 0
        self.exit_status = 0

    @property
    def is_draining(self) -> bool:
        """Start no further trial."""
        return self.exit_status != 0

    @property
    def is_interrupted(self) -> bool:
        """Stop the running trial as well."""
        return self._n_interrupts >= 2 or self.exit_status == EXIT_TERMINATED

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals inside this block."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.exit_status = EXIT_TERMINATED
            return
        self._n_interrupts += 1
        self.exit_status = self.exit_status or EXIT_INTERRUPTED
        if self._n_interrupts >= 3:
            os._exit(EXIT_INTERRUPTED)  # the child sees its pipe close and leaves too
        self._announce(
            "Finishing the running trial, then stopping; press Ctrl-C again to stop it now."
            if self._n_interrupts == 1
            else "Stopping the running trial; it will be run again by the next call."
        )
