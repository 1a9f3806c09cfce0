"""How long ago the last heartbeat of each trial was; one that is no time was written by somebody else."""

import copy
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, String, func, select, type_coerce, update

from search.storage.optuna_internals import id_of, models, storage_of
from search.storage.rows.damage import any_text

if TYPE_CHECKING:
    from search.storage.resilient import ResilientStorage

_LONG_AGO = datetime.datetime(1970, 1, 1)


def lease_ages_s(storage: "ResilientStorage", study: Study) -> dict[int, float]:
    """Seconds since the last heartbeat of each running trial, by trial id; trials without one are left out.

    It is the database's own clock that tells.
    """

    def ages() -> dict[int, float]:
        with storage.engine.connect() as connection:
            # Optuna writes them without a zone, in that of the connection.
            now = connection.execute(select(func.now())).scalar_one().replace(tzinfo=None)
            found = heartbeats(connection, *_of(study, TrialState.RUNNING))
            return {trial_id: (now - beat).total_seconds() for trial_id, beat in found.items() if beat is not None}

    return storage.outages.call(ages)


def last_heard_s(study: Study) -> dict[int, float]:
    """When each trial that failed was last heard of, in seconds since the epoch, by trial id.

    Workers' connections are in UTC (`search.storage.database`), and SQLite knows no other time.
    """
    storage: Any = storage_of(study)

    def beats() -> dict[int, float]:
        with storage.engine.connect() as connection:
            found = heartbeats(connection, *_of(study, TrialState.FAIL))
        utc = datetime.UTC
        return {trial_id: beat.replace(tzinfo=utc).timestamp() for trial_id, beat in found.items() if beat is not None}

    return dict(storage.outages.call(beats))


def as_heard(study: Study, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """The trials, where one that failed has ended when it was last heard of: its worker may have been found gone much
    later.
    """
    if all(trial.state != TrialState.FAIL for trial in trials):
        return trials
    storage: Any = storage_of(study)
    heard_s, more_s = last_heard_s(study), storage.heartbeat_interval or 0.0

    def seen(trial: FrozenTrial) -> FrozenTrial:
        if id_of(trial) not in heard_s or trial.datetime_start is None or trial.datetime_complete is None:
            return trial
        last = datetime.datetime.fromtimestamp(heard_s[id_of(trial)] + more_s)
        if last >= trial.datetime_complete:
            return trial
        shown = copy.copy(trial)
        shown.datetime_complete = max(last, trial.datetime_start)
        return shown

    return [seen(trial) for trial in trials]


def _of(study: Study, state: TrialState) -> tuple[Any, ...]:
    return models.TrialModel.study_id == id_of(study), models.TrialModel.state == state


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
