"""Who runs each trial, and how long ago its last heartbeat was, by the database's own clock."""

from optuna import Study
from optuna.trial import TrialState
from sqlalchemy import func, select

from search.storage.optuna_internals import id_of, models
from search.storage.resilient import ResilientStorage
from search.storage.rows.heartbeats import heartbeats


def lease_ages_s(storage: ResilientStorage, study: Study) -> dict[int, float]:
    """Seconds since the last heartbeat of each running trial, by trial id; trials without one are left out."""
    is_running = (models.TrialModel.study_id == id_of(study), models.TrialModel.state == TrialState.RUNNING)

    def ages() -> dict[int, float]:
        with storage.engine.connect() as connection:
            # Optuna writes them without a zone, in that of the connection.
            now = connection.execute(select(func.now())).scalar_one().replace(tzinfo=None)
            found = heartbeats(connection, *is_running)
            return {trial_id: (now - beat).total_seconds() for trial_id, beat in found.items() if beat is not None}

    return storage.outages.call(ages)
