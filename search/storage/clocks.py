"""Whether this machine's clock agrees with the database's: with hours between them, leases mean nothing."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, text

from datasets.common.errors import UserError
from search.storage.database import Database


def utc_now() -> datetime.datetime:
    """What the clock of this machine says."""
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """What both clocks said at one moment, in UTC; what the answer took to come, `round_trip_s`, is uncertain."""

    here: datetime.datetime
    there: datetime.datetime
    round_trip_s: float

    @property
    def difference_s(self) -> float:
        """By how much they differ at least, in seconds."""
        return max(0.0, abs((self.here - self.there).total_seconds()) - self.round_trip_s / 2)

    @property
    def sentence(self) -> str:
        """Both times in words."""
        here, there = f"{self.here:%Y-%m-%d %H:%M:%S}", f"{self.there:%Y-%m-%d %H:%M:%S}"
        return f"this machine's clock says {here} UTC, the database's {there} UTC"


def compare_clocks(engine: Engine, now: Callable[[], datetime.datetime] = utc_now) -> Clocks | None:
    """Ask a Postgres database for its time; None for SQLite, whose clock is this machine's."""
    if engine.dialect.name != "postgresql":
        return None
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))  # with the connection itself made, the next answer takes one round trip
        before = now()
        there = connection.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(datetime.UTC)
        after = now()
    return Clocks(here=before + (after - before) / 2, there=there, round_trip_s=(after - before).total_seconds())


def check_clock(database: Database, now: Callable[[], datetime.datetime] = utc_now) -> None:
    """Refuse to work with a clock that is off by more than half a lease.

    Raises:
        UserError: It is; the sentence shows both times.
    """
    clocks = database.storage.outages.call(lambda: compare_clocks(database.storage.engine, now))
    if clocks is not None and clocks.difference_s > database.lease.max_clock_difference_s:
        raise UserError(
            f"The clocks differ too much for leases of {database.lease.lease_s} s: {clocks.sentence} "
            f"({database.name}); set the one that is wrong, for example with `timedatectl set-ntp true`."
        )
