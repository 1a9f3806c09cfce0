"""Several runs without a study, told of in their order; on idle cores some train before their turn."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from search.machine.hardware import usable_cores
from search.machine.memory import free_memory_bytes
from search.training.result import Result
from search.workers.child import Running
from search.workers.run_alone import outcome
from search.workers.signals import Signals

if TYPE_CHECKING:
    from search.workers.display import Display

_USED_SHARE = 0.8
"""Of the memory that is free: others come and go."""


def results_in_order(
    runs: Sequence[Callable[[], Running]], display: "Display", signals: Signals
) -> Generator[Result, None, None]:
    """What runs come to, each of which is started by calling it; to be closed where not all of it is wanted.

    The others wait for the first one, which computes what all need and shows what a run takes. On a GPU, which one run
    fills, they train one after another.

    Raises:
        search.workers.run_alone.Stopped: A signal came, or a run failed; all are ended.
        UserError: A config cannot run on this machine.
    """
    waiting, running, room = deque(runs), deque[Running](), 1
    try:
        while waiting or running:
            while waiting and len(running) < room:
                running.append(waiting.popleft()())
            result = outcome(running.popleft(), display, signals, shows_values=False)
            assert isinstance(result, Result)
            room = _room(result, len(running))
            yield result
    finally:
        for child in running:
            child.close()


def _room(like: Result, n_running: int) -> int:
    """How many runs may train at once where so many do that take as much as this one took."""
    if like.device != "cpu":
        return 1
    by_memory = n_running + int(_USED_SHARE * free_memory_bytes() / like.peak_memory_bytes)
    return max(1, min(usable_cores() // like.threads, by_memory))
