"""A child for several runs, one after another: a process takes longer to start than a small exact model to be solved.

A crash still takes down the run that crashed and no other: the next one has a child of its own. What could be seen of a
run by the next one is little: every run sets its threads, and seeds what it draws.
"""

from pathlib import Path

from search.config import targets
from search.config.run_config import RunConfig
from search.machine import own_models
from search.storage.ending import Ending
from search.training.result import Result
from search.workers.child import Child, Job, Running
from search.workers.messages import Message

_MAX_RUNS = 200  # by one child: whatever leaks is given back
_MAX_MEMORY = 2**31  # bytes: who has held more gives it back by ending


def may_follow(run: RunConfig) -> bool:
    """Whether a run may have the child of another: models of the program that are solved at once.

    Models and callbacks of users may leave anything behind, and training step by step outlasts a process's start.
    """
    is_own = own_models.source_hash(str(run.model["_target_"])) is not None
    return targets.is_exact(run.model) and not is_own and not run.trainer.callbacks


class Reused:
    """Starts runs, as `Child` does, in the child of the last one if that ended well."""

    def __init__(self) -> None:
        self._idle: Child | None = None
        self._n_runs = 0

    def __call__(self, job: Job, directory: Path) -> Running:
        """Start a run."""
        child = self._idle  # which stays ours where the folder cannot be made
        if child is not None:
            try:
                child.give(job, directory)
            except (BrokenPipeError, ConnectionResetError):  # it died meanwhile, killed for its memory perhaps
                child.close()
                child = None
        self._idle = None
        if child is None:
            child, self._n_runs = Child(job, directory), 0
        self._n_runs += 1
        return _Lent(child, self)

    def take_back(self, child: Child) -> None:
        """Keep a child, whose run ended well, for the next one."""
        if self._n_runs < _MAX_RUNS:
            self._idle = child
        else:
            child.close()

    def close(self) -> None:
        """End the child that is kept."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None


class _Lent:
    """A run in a child that is given back after it."""

    def __init__(self, child: Child, owner: Reused) -> None:
        self._child = child
        self._owner = owner
        self._is_good = False
        self._was_stopped = False

    def next_message(self, timeout_s: float) -> Message | None:
        """As that of a child."""
        message = self._child.next_message(timeout_s)
        if isinstance(message, Result):
            is_small = message.device == "cpu" and message.peak_memory_bytes < _MAX_MEMORY
            self._is_good = message.ending == Ending.COMPLETE and is_small
        return message

    def stop(self) -> None:
        """As that of a child."""
        self._was_stopped = True
        self._child.stop()

    def close(self) -> None:
        """Give the child back, or end it."""
        if self._is_good and not self._was_stopped:
            self._owner.take_back(self._child)
        else:
            self._child.close()
