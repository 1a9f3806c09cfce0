"""Heartbeats that are no time: somebody else wrote them, and SQLite keeps anything in any column."""

import datetime
from typing import Any

from sqlalchemy import Connection, Engine, String, select, type_coerce, update

from search.storage.optuna_internals import models
from search.storage.rows.damage import any_text

_LONG_AGO = datetime.datetime(1970, 1, 1)


def heartbeats(connection: Connection, *conditions: Any) -> dict[int, datetime.datetime | None]:
    """The heartbeats of trials by trial id, in time without a zone; None where it is no time.

    `conditions` are on trials and their heartbeats.
    """
    beat: Any = models.TrialHeartbeatModel.heartbeat
    if connection.dialect.name == "sqlite":
        beat = type_coerce(beat, String)  # as it stands there
    query = select(models.TrialHeartbeatModel.trial_id, beat)
    query = query.join(models.TrialModel, models.TrialModel.trial_id == models.TrialHeartbeatModel.trial_id).where(
        *conditions
    )
    with any_text(connection, "backslashreplace"):
        return {trial_id: _time(beat) for trial_id, beat in connection.execute(query)}


def _time(beat: object) -> datetime.datetime | None:
    """A heartbeat as a driver gives it."""
    try:
        found = datetime.datetime.fromisoformat(beat) if isinstance(beat, str) else beat
    except ValueError:
        return None
    return found.replace(tzinfo=None) if isinstance(found, datetime.datetime) else None


def end_unreadable_leases(engine: Engine) -> None:
    """Let heartbeats that are no time be long ago, so that their trials are run again as those of a lost worker."""
    with engine.begin() as connection:
        unreadable = [trial_id for trial_id, beat in heartbeats(connection).items() if beat is None]
        for trial_id in unreadable:
            own = update(models.TrialHeartbeatModel).where(models.TrialHeartbeatModel.trial_id == trial_id)
            connection.execute(own.values(heartbeat=_LONG_AGO))
