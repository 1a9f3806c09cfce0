"""The workers of this machine, as processes that their supervisor spawns."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from search.machine import own_models
from search.machine.interpreters import lend_forkserver, without_program
from search.training.folds.forked import how_ended
from search.workers.crew import WorkerEnd
from search.workers.fleet_worker import STOP_S, TOLD_BY, Assignment, run_worker
from search.workers.slots import Slot

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class LocalCrew:
    """A process for each slot of this machine; see `search.workers.crew.Crew`."""

    given: Sequence[Slot]

    @property
    def is_this_process(self) -> bool:
        """Where there is one slot."""
        return len(self.given) == 1

    def slots(self) -> Sequence[Slot]:
        """All of them, from the beginning."""
        return self.given

    def start(self, assignment: Assignment) -> "LocalWorker":
        """Spawn a process."""
        return LocalWorker(assignment)


class LocalWorker:
    """Starts the worker of an assignment; see `search.workers.crew.RunningWorker`."""

    has_begun = True

    def __init__(self, assignment: Assignment) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=run_worker,
            args=(assignment, theirs, own_models.in_use(), lend_forkserver()),
            name=f"flipsearch worker {assignment.slot.name}",
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD_BY)
        try:
            with without_program():
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError, ValueError):  # it has ended meanwhile
            if self._process.pid is not None:
                os.kill(self._process.pid, number)

    def end(self) -> WorkerEnd:
        """Wait for its end."""
        self._process.join(STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        how = how_ended(self._process.exitcode)
        self.pipe.close()
        self._process.close()
        return WorkerEnd(how=how)
