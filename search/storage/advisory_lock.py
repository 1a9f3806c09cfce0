"""The lock of a Postgres database: a worker holds it from counting trials to asking for one, on whatever machine.

Apart from `search.storage.locks`, since psycopg takes a third of a second to import, and SQLite needs none of it.
"""

import contextlib
import hashlib
import weakref
from collections.abc import Callable
from typing import Final

import psycopg

from search.storage.locks import LOOK_UP_S, Lock, check_interruption
from search.storage.outages import Outages

_KEY: Final = int.from_bytes(hashlib.sha256(b"flipsearch").digest()[:8], "big", signed=True)
"""Postgres keeps locks by database: one key serves all."""
# A holder that was suspended does not stop the fleet for longer; it finds that the lock was lost.
_LONGEST_HOLD_S = 300


class AdvisoryLock(Lock):
    """A lock in Postgres, held by a connection of its own: excludes the workers of all machines.

    The server frees it when the connection ends, by whatever cause: then somebody else may have held it before
    our `release`, which notes that in `was_lost`.

    Args:
        connect: Opens a connection.
        outages: Waits where the server does not answer.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[object, ...]]], outages: Outages) -> None:
        self.was_lost = False
        self._connect = connect
        self._outages = outages
        self._open: list[psycopg.Connection[tuple[object, ...]]] = []  # one at most
        self._is_held = False
        weakref.finalize(self, _close_all, self._open)

    def acquire(self) -> None:
        """Wait for the lock, over a new connection where the old one was lost.

        Raises:
            StorageLost: The server does not come back, or somebody interrupted.
        """
        assert not self._is_held, "the lock is not reentrant"
        while not self._outages.call(self._try):
            check_interruption(self._outages)
        self._is_held = True

    def release(self) -> None:
        """Let go of the lock, if it is held; a lost connection has done so."""
        if not self._is_held:
            return
        self._is_held, self.was_lost = False, True
        try:
            unlock = "SELECT pg_advisory_unlock(%s), set_config('idle_session_timeout', '0', false)"
            row = self._open[0].execute(unlock, [_KEY]).fetchone()
            self.was_lost = row is None or not row[0]
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """End the connection, and with it the lock."""
        _close_all(self._open)
        self._is_held = False

    def _try(self) -> bool:
        """Whether the lock came free soon."""
        try:
            if not self._open:
                self._open.append(self._connect())
                _prepare(self._open[0])
            self._open[0].execute(
                "SELECT set_config('idle_session_timeout', %s, false), pg_advisory_lock(%s)",
                [f"{_LONGEST_HOLD_S}s", _KEY],
            )
            return True
        except psycopg.errors.LockNotAvailable:
            return False
        except BaseException:
            self.close()
            raise


def _prepare(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.autocommit = True
    settings = {
        "statement_timeout": "0",  # that of a role or a database would end the waiting
        "lock_timeout": f"{1000 * LOOK_UP_S:.0f}",
        # The server should notice within a minute that a holder's machine is gone.
        "tcp_keepalives_idle": "20",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def _close_all(connections: list[psycopg.Connection[tuple[object, ...]]]) -> None:
    while connections:
        with contextlib.suppress(psycopg.Error):
            connections.pop().close()
