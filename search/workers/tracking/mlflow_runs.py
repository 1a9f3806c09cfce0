"""Trials as runs of MLflow: in a SQLite file of the runs folder, or wherever `MLFLOW_TRACKING_URI` says."""

import datetime
import logging
import os
from pathlib import Path

# It would tell its makers how it is used.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A server that does not answer would keep a worker from its next trial for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import filelock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from search.workers.tracking.record import TrialRecord

_FILE = "mlflow.db"
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


class MlflowRuns:
    """A run for each trial, in an experiment for each study."""

    def __init__(self, folder: Path, *, study: str, experiment_name: str | None = None) -> None:
        """`folder` is the study's; the file stands beside it, for all studies of the runs folder."""
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        runs = folder.parent
        runs.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs.absolute() / _FILE}"
        # Of several workers that begin at once, one makes the tables and the experiment.
        with filelock.FileLock(runs / f"{_FILE}.lock"):
            self._client = MlflowClient(tracking_uri=address)
            name = experiment_name or study
            known = self._client.get_experiment_by_name(name)
            # Its own default for files of runs would be a folder of the working directory; we keep none.
            where = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder.absolute() / "mlflow").as_uri()
            self._experiment = (
                known.experiment_id if known else self._client.create_experiment(name, artifact_location=where)
            )

    def keep(self, trial: TrialRecord) -> None:
        """Write a trial that has ended."""
        tags = {
            "study": trial.study,
            "trial": str(trial.number),
            "state": trial.state,
            "ending": trial.ending,
            "task": trial.task,
            "model": trial.model,
        }
        began, ended = _milliseconds(trial.began), _milliseconds(trial.ended)
        run = self._client.create_run(self._experiment, start_time=began, tags=tags, run_name=trial.name).info.run_id
        metrics = [
            Metric(key=f"validation_spearman.fold{fold}", value=value, timestamp=began, step=epoch)
            for _, fold, epoch, value in trial.values
        ]
        last = {"seconds": trial.seconds, "value": trial.value, "n_parameters": trial.n_parameters}
        metrics += [
            Metric(key=key, value=float(value), timestamp=ended, step=0)
            for key, value in last.items()
            if value is not None
        ]
        params = [Param(key=path, value=str(value)) for path, value in trial.params.items()]
        for first in range(0, max(len(metrics), 1), 500):  # more at once are refused
            self._client.log_batch(run, metrics=metrics[first : first + 500], params=params if first == 0 else [])
        self._client.set_terminated(run, status=_STATUS[trial.state], end_time=ended)

    def close(self) -> None:
        """Nothing is left to be written."""


def _milliseconds(time: datetime.datetime) -> int:
    return round(time.timestamp() * 1000)
