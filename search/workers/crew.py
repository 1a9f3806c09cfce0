"""What a fleet wants of the workers that it starts, on this machine or elsewhere."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from search.workers.fleet_worker import Assignment
from search.workers.slots import Slot


@dataclass(frozen=True, kw_only=True)
class WorkerEnd:
    """How a worker ended, in words: `by signal 9`; `is_lost` where its machine went, and it is not to blame."""

    how: str
    is_lost: bool = False


class RunningWorker(Protocol):
    """A worker that was started."""

    @property
    def pipe(self) -> Connection:
        """Its reports (`search.workers.fleet_worker.Report`) arrive here; it closes when the worker has ended."""

    @property
    def has_begun(self) -> bool:
        """Whether it works; otherwise it waits for a place, and does not find out by itself that no work is left."""

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal; called in handlers of signals too, so it does not wait."""

    def end(self) -> WorkerEnd:
        """Wait for the end of a worker whose pipe has closed, and free what belongs to it."""


class Crew(Protocol):
    """The workers that there may be, each in a slot of its own."""

    @property
    def is_this_process(self) -> bool:
        """Whether the only worker may as well be the process that asks."""

    def slots(self) -> Sequence[Slot]:
        """The slots of all workers that are wanted now: one that is there stays, and more may follow."""

    def start(self, assignment: Assignment) -> RunningWorker:
        """Start the worker of one of these slots, which may be bound to a GPU only then, without waiting for it."""
