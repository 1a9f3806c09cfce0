"""How far a prediction is: a bar on a terminal, lines now and then elsewhere, or nothing."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_BETWEEN_LINES_S = 10.0
_T = TypeVar("_T", bound=Sized)


class Counter:
    """Counts candidates on standard error; `n_total` None is not known."""

    def __init__(self, n_total: int | None, *, is_quiet: bool) -> None:
        self.n_done = 0
        self._n_total = n_total
        self._is_quiet = is_quiet
        self._last_said = time.monotonic()
        self._bar: Progress | None = None
        if not is_quiet and sys.stderr.isatty():
            self._bar = Progress(
                BarColumn(),
                TextColumn("{task.completed:,.0f} candidates", style="bold"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=n_total)

    def __enter__(self) -> "Counter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def counted(self, blocks: Iterable[_T]) -> Iterator[_T]:
        """Yield the blocks, and count what is in each when the next one is asked for."""
        for block in blocks:
            yield block
            self._add(len(block))

    def _add(self, n: int) -> None:
        self.n_done += n
        if self._bar is not None:
            self._bar.update(self._task, advance=n)
        elif not self._is_quiet and time.monotonic() - self._last_said >= _BETWEEN_LINES_S:
            self._last_said = time.monotonic()
            total = "" if self._n_total is None else f"/{self._n_total:,}"
            print(f"{self.n_done:,}{total} candidates", file=sys.stderr, flush=True)
