"""How far a prediction is: a bar on a terminal, lines now and then elsewhere, or nothing."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from datasets.common.bars import Bar

_BETWEEN_LINES_S = 10.0
_T = TypeVar("_T", bound=Sized)


class Counter(Bar):
    """Counts candidates on standard error; `n_total` None is not known."""

    def __init__(self, n_total: int | None, *, is_quiet: bool) -> None:
        super().__init__()
        self._n_total = n_total
        self._has_lines = self.rendered is None and not is_quiet
        self._last_said = time.monotonic()

    def counted(self, blocks: Iterable[_T]) -> Iterator[_T]:
        """Yield the blocks, and count what is in each when the next one is asked for."""
        for block in blocks:
            yield block
            self.show(self.n_done + len(block), self._n_total, "candidates")
            if self._has_lines and time.monotonic() - self._last_said >= _BETWEEN_LINES_S:
                self._last_said = time.monotonic()
                total = "" if self._n_total is None else f"/{self._n_total:,}"
                print(f"{self.n_done:,}{total} candidates", file=sys.stderr, flush=True)
