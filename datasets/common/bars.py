"""The one place that makes progress bars: they move on a terminal, and are nothing elsewhere or after `--quiet`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_BETWEEN_LOOKS_S = 0.1  # a download tells of each kilobyte, and to show it costs more than to fetch it
_is_silent = False
_open: list[Progress] = []
"""Those inside whose `with` block the program is: the last one alone is on the terminal."""


def silence(is_silent: bool) -> None:
    """Whether this process makes no bars from now on."""
    global _is_silent
    _is_silent = is_silent


class Bar:
    """How much of something is done. Shown on standard error inside a `with` block, it leaves no trace there.

    Args:
        is_bytes: Whether bytes are counted.

    Attributes:
        n_done: What was shown last.
        rendered: For whoever shows it among other things; None where nothing is shown.
    """

    def __init__(self, *, is_bytes: bool = False) -> None:
        self.n_done = 0
        self._shown = float("-inf")
        self.rendered: Progress | None = None
        if _is_silent or not sys.stderr.isatty():
            return
        from rich.console import Console  # as late as this: rich takes a while to import
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        numbers = DownloadColumn(binary_units=True) if is_bytes else TextColumn("{task.fields[numbers]}", style="bold")
        self.rendered = Progress(
            BarColumn(),
            numbers,
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self.rendered.add_task("", total=None, numbers="0")

    def __enter__(self) -> Bar:
        """Show it, in place of the one within which it is made."""
        if self.rendered is not None:
            if _open:
                _open[-1].stop()
            _open.append(self.rendered)
            self.rendered.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away, and show the one within which it was made."""
        if self.rendered is not None:
            self.rendered.stop()
            _open.remove(self.rendered)
            if _open:
                _open[-1].start()

    def show(self, n_done: int, total: int | None, what: str) -> None:
        """Say that `n_done` of `total` (None where it is not known) of `what` are done. Any thread may do so."""
        self.n_done = n_done
        now = time.monotonic()
        if self.rendered is not None and now - self._shown >= _BETWEEN_LOOKS_S:
            self._shown = now
            numbers = f"{n_done:,}" + ("" if total is None else f"/{total:,}")
            self.rendered.update(self._task, completed=n_done, total=total, description=what, numbers=numbers)
