"""Databases come and go: which errors pass by themselves, how they are waited for, and the sentences for others."""

import contextlib
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, PendingRollbackError

from datasets.common.errors import UserError
from search.machine.limits import limit_reached
from search.storage.remedies import chain, explain, is_database_error, is_of_psycopg, reason_of
from search.storage.url import hide

PATIENCE_S = 300.0
"""How long a search waits for its database."""
_FIRST_PAUSE_S = 0.05
# As short as this, so that within two heartbeats of an outage's end every live worker has sent one.
_LONGEST_PAUSE_S = 2.0
_SILENT_S = 2.0
"""A restart of this length is nobody's concern."""
_PASSING_SQLSTATES = ("08", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05")
_PASSING_WORDS = re.compile(
    r"the database system is|too many clients|too many connections for|remaining connection slots"
    r"|terminating connection"
)

T = TypeVar("T")


class StorageLost(UserError):
    """The database did not come back; the text says which and why."""

    exit_status = 1


class StorageRefused(UserError):
    """The database answers, and refuses; the text says why and what to do."""


class Outages:
    """Calls a database as often as it takes. Shared by all threads and connections of a process.

    Args:
        name: The storage's URL without secrets.
        secrets: What no message may contain.
        announce: Told when an outage becomes long, and when it is over.
        is_interrupted: Once true, nobody waits any longer.
        patience_s: How long a call is repeated.
        settle_s: How long after an outage the first heartbeats of live workers may still be missing.
        is_settled: Whether they have been, before the first call.
    """

    def __init__(
        self,
        name: str,
        *,
        secrets: Collection[str] = (),
        announce: Callable[[str], None] = lambda sentence: None,
        is_interrupted: Callable[[], bool] = lambda: False,
        patience_s: float = PATIENCE_S,
        settle_s: float = 8.0,
        is_settled: bool = True,
    ) -> None:
        self.name = name
        self.is_interrupted = is_interrupted
        self._secrets = secrets
        self._announce = announce
        self._patience_s = patience_s
        self._settle_s = settle_s
        self._unsettled_since = float("-inf") if is_settled else time.monotonic()
        self._state = threading.Lock()
        self._began: float | None = None
        self._was_announced = False
        self._has_given_up = False

    def is_settled(self) -> bool:
        """False during an outage and for some seconds after it: live workers may not have sent a heartbeat since."""
        return self._began is None and time.monotonic() - self._unsettled_since > self._settle_s

    def lost_connection(self) -> None:
        """Note that a connection was found dead: there may have been an outage that nobody here has met."""
        self._unsettled_since = time.monotonic()

    def call(self, function: Callable[[], T], passes: Callable[[BaseException], bool] | None = None) -> T:
        """What the function returns; repeated, with growing pauses, while it fails by an outage.

        Args:
            function: May run several times: an attempt whose connection is lost may have done its work or not.
            passes: Which errors are waited for; those of `is_outage` by default.

        Raises:
            StorageLost: The patience is at its end, or somebody interrupted.
            StorageRefused: Instead of an error of the database layers that does not pass by itself.
        """
        waits = passes or is_outage
        deadline, pause_s = None, _FIRST_PAUSE_S
        while True:
            try:
                result = function()
            except Exception as error:
                if not waits(error):
                    if is_database_error(error):
                        raise refusal(error, self.name, self._secrets) from None
                    raise
                reason = hide(reason_of(error), self._secrets)
                failed = error
            else:
                self._end()
                return result
            now = self._note(reason)
            deadline = now + self._patience_s if deadline is None else deadline
            # Only a failure at the end of the patience is the last: whoever slept until then has asked once.
            if now >= deadline or not self._pause(pause_s * random.uniform(0.5, 1.0), deadline):
                raise self._give_up(failed) from None
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _pause(self, pause_s: float, deadline: float) -> bool:
        """Sleep, to the deadline at most; False if there is nothing more to wait for."""
        until = min(time.monotonic() + pause_s, deadline)
        while (now := time.monotonic()) < until:
            if self._has_given_up or self.is_interrupted():
                return False
            time.sleep(min(0.1, until - now))
        return True

    def _note(self, reason: str) -> float:
        with self._state:
            now = time.monotonic()
            self._began = self._began or now
            self._unsettled_since = now
            if now - self._began > _SILENT_S and not self._was_announced:
                self._was_announced = True
                self._announce(
                    f"The storage {self.name} does not answer ({reason}): "
                    f"waiting for it, up to {self._patience_s / 60:.0f} min."
                )
            return now

    def _end(self) -> None:
        if self._began is None:
            return
        with self._state:
            if self._was_announced:
                self._announce(f"The storage {self.name} answers again.")
            self._began, self._was_announced, self._has_given_up = None, False, False
            self._unsettled_since = time.monotonic()

    def _give_up(self, error: BaseException) -> StorageLost:
        self._has_given_up = True  # whatever else is to be written is tried once
        if self.is_interrupted():
            reason = hide(reason_of(error), self._secrets)
            return StorageLost(f"Stopped while the storage {self.name} did not answer ({reason}).")
        return StorageLost(
            f"The storage {self.name} did not come back within {self._patience_s:.0f} s "
            f"{explain(error, self._secrets)}. No finished trial is lost; the same command goes on once it answers."
        )


def refusal(error: BaseException, name: str, secrets: Collection[str]) -> StorageRefused:
    """The sentence that a database error stands for; `name` is the storage's URL without secrets."""
    what = "does not answer" if is_outage(error) else "cannot be used"
    return StorageRefused(f"The storage {name} {what} {explain(error, secrets)}.")


@contextlib.contextmanager
def explained(name: str, secrets: Collection[str] = ()) -> Iterator[None]:
    """Turn what the database layers raise into a sentence; `name` is the storage's URL without secrets.

    Raises:
        UserError: Instead of their errors.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"The storage {name} needs a database driver that is not installed: {error.name}.") from None
    except OSError as error:
        raise limit_reached(error) or UserError(
            f"The storage {name} cannot be written ({error.strerror}: {error.filename}): let this user write there, "
            "or name another."
        ) from None
    except Exception as error:
        if is_database_error(error):
            raise refusal(error, name, secrets) from None
        raise


def is_outage(error: BaseException) -> bool:
    """Whether the error came of a lost connection, a server that comes or goes, or a lock held by others."""
    return any(map(_passes, chain(error)))


def is_starting(error: BaseException) -> bool:
    """Whether there is a server that has no connection for us yet; a wrong address is not waited for."""
    return any(_PASSING_WORDS.search(str(link)) for link in chain(error))


def _passes(error: BaseException) -> bool:
    if isinstance(error, PendingRollbackError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error)
    if is_of_psycopg(error, "OperationalError", "InterfaceError"):
        # Without a state it is the connection itself that failed.
        state: str | None = getattr(error, "sqlstate", None)
        return state is None or state.startswith(_PASSING_SQLSTATES)
    return False
