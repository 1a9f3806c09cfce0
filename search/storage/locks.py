"""The lock that a worker holds from counting trials to asking for one, so that budgets are met exactly."""

from pathlib import Path
from typing import Protocol, Self

from filelock import FileLock, Timeout

from search.storage.outages import Outages, StorageLost

LOOK_UP_S = 2
"""How often whoever waits for a lock looks up."""


class Lock(Protocol):
    """Excludes other workers. Not reentrant.

    Attributes:
        was_lost: Whether, when it was released last, it turned out that it may have been another's meanwhile.
    """

    was_lost: bool

    def acquire(self) -> None:
        """Wait for the lock."""

    def release(self) -> None:
        """Let go of the lock, if it is held."""

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class LocalLock(Lock):
    """A lock on a file: excludes the processes of this machine. The system frees it when its holder dies.

    Args:
        path: The file.
        outages: Says whether somebody interrupted; a holder that is suspended would be waited for without end.
    """

    def __init__(self, path: Path, outages: Outages) -> None:
        self.was_lost = False
        self._outages = outages
        self._lock = FileLock(path)

    def acquire(self) -> None:
        """Wait for the lock.

        Raises:
            StorageLost: Somebody interrupted.
        """
        while True:
            try:
                self._lock.acquire(timeout=LOOK_UP_S)
                return
            except Timeout:
                check_interruption(self._outages)

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        self._lock.release(force=True)


def check_interruption(outages: Outages) -> None:
    """Whoever waits for a lock asks this now and then.

    Raises:
        StorageLost: Somebody interrupted.
    """
    if outages.is_interrupted():
        raise StorageLost(f"Stopped while another worker held the lock of the storage {outages.name}.")
