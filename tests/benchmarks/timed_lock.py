"""Of bench_fleet.py: a database's lock that notes how long each waits for it, and holds it."""

import time

from search.storage.locks import Lock


class TimedLock:
    """Does what the lock does that it is given."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._since: float | None = None
        self.waited_s: list[float] = []
        self.held_s: list[float] = []

    @property
    def was_lost(self) -> bool:
        return self._lock.was_lost

    def acquire(self) -> None:
        began = time.perf_counter()
        self._lock.acquire()
        self._since = time.perf_counter()
        self.waited_s.append(self._since - began)

    def release(self) -> None:
        if self._since is not None:
            self.held_s.append(time.perf_counter() - self._since)
            self._since = None
        self._lock.release()

    def __enter__(self) -> "TimedLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
