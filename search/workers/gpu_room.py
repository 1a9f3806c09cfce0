"""How many trials a GPU trains at once: a short measurement before the first trial, for `--trials-per-gpu auto`.

What is measured decides how many workers there are and nothing else: a number is taken only where even the largest
runs pass whole batches through their share of the memory, so that trials keep the bits that they have alone.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from search.workers.child import Running
from search.workers.messages import Failure, MemoryShares, Value

MOST = 8
"""More processes than that spend their time in turns."""
GAIN = 1.2
"""Twice the trials have to train so many times as many epochs a second, or they only wait for each other."""
_POLL_S = 0.05
_LONGEST_START_S = 120.0
"""For imports and the model; features of a language model take longer, and then it fills the GPU by itself."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How long epochs are counted: `at_least_s`, and on until each run had `n_epochs` or `at_most_s` are over."""

    at_least_s: float = 3.0
    at_most_s: float = 15.0
    n_epochs: int = 5


def memory_allows(shares: Running, is_over: Callable[[], bool]) -> int:
    """The answer of `search.workers.jobs.isolated_shares`, which is ended then; 1 where it has none."""
    try:
        while not is_over():
            message = shares.next_message(_POLL_S)
            if isinstance(message, MemoryShares):
                return message.n
            if isinstance(message, Failure):
                break
        return 1
    finally:
        shares.close()


def epochs_by_number(
    start: Callable[[int], Running], most: int, is_over: Callable[[], bool], window: Window
) -> dict[int, float]:
    """Epochs a second of 1, 2, 4, ... runs at once, up to `most`, or to where twice as many gain too little.

    `start` starts the run of a number, which should train for longer than this takes. Where one ends, counts nothing
    in time, or `is_over`, what was measured until then is all there is.
    """
    rates: dict[int, float] = {}
    with ExitStack() as stack:
        runs: list[Running] = []
        n = 1
        while n <= most:
            while len(runs) < n:
                runs.append(start(len(runs)))
                stack.callback(runs[-1].close)
            rate = _epochs_a_second(runs, is_over, window)
            if rate is None:
                break
            rates[n] = rate
            if n > 1 and rate < GAIN * rates[n // 2]:
                break
            n *= 2
    return rates


def carried(rates: Mapping[int, float]) -> int:
    """The largest number of runs that gained enough over half as many; 1 where nothing is known."""
    n = 1
    while 2 * n in rates and rates[2 * n] >= GAIN * rates[n]:
        n *= 2
    return n


def shown(rates: Mapping[int, float]) -> str:
    """A sentence for users."""
    if not rates:
        return "How many trials a GPU trains at once could not be measured by epochs: each GPU has one worker."
    n = carried(rates)
    measured = ", ".join(f"{number} at once {rate:.1f}" for number, rate in rates.items())
    return f"--trials-per-gpu auto is {n}: epochs a second of the first configuration, {measured}."


def _epochs_a_second(runs: list[Running], is_over: Callable[[], bool], window: Window) -> float | None:
    """Counted from the moment when each run has finished another epoch."""
    begins_by = time.monotonic() + _LONGEST_START_S
    has_begun, n_epochs, began = [False] * len(runs), [0] * len(runs), 0.0
    while not is_over():
        for number, run in enumerate(runs):
            message = run.next_message(_POLL_S if number == 0 else 0)
            while isinstance(message, Value):
                has_begun[number] = True
                n_epochs[number] += began > 0
                message = run.next_message(0)
            if message is not None and _has_ended(message):
                return None
        now = time.monotonic()
        if began == 0:
            if all(has_begun):
                began = now
            elif now > begins_by:
                return None
        elif now - began >= (window.at_least_s if min(n_epochs) >= window.n_epochs else window.at_most_s):
            return sum(n_epochs) / (now - began)
    return None


def _has_ended(message: object) -> bool:
    from search.training.result import Result

    return isinstance(message, (Failure, Result))
