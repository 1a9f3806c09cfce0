"""Which program keeps a study's trials beside the database, and whether it is installed."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from optuna import Study
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.config import targets
from search.storage.attributes import MANIFEST
from search.study.config import StudyConfig
from search.workers.tracking.record import TrialRecord, record_of

_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}


class Runs(Protocol):
    """Keeps trials as runs; any error may be raised."""

    def keep(self, trial: TrialRecord) -> None:
        """Keep a trial that has ended."""

    def close(self) -> None:
        """Write what is not written yet."""


def check_tracker(logger: Mapping[str, Any] | None) -> None:
    """Refuse a logger whose package is not installed, before anything trains."""
    name = targets.tracker_in(logger)
    if name is not None and importlib.util.find_spec(name) is None:
        raise UserError(
            f"logger={name} needs a package that is not installed: `pip install {_PACKAGES[name]}` installs it, or "
            "leave it out (logger=csv)."
        )


class Tracker:
    """Keeps the trials that this process ran, where the study's logger asks for it.

    What cannot be kept is announced, once for each kind of error, and the search goes on: the database has it all.
    """

    def __init__(self, study: Study, config: StudyConfig, folder: Path, announce: Callable[[str], None]) -> None:
        """Import the program now, while the checkout and the installation are what they were; `folder`: the study's."""
        self._study, self._epochs, self._announce = study, config.epochs_per_fold, announce
        self._name = targets.tracker_in(config.defaults["logger"])
        self._said: set[str] = set()
        self._runs: Runs | None = None
        if self._name is not None:
            self._try("What ends", lambda: self._open(dict(config.defaults["logger"]), folder))

    def end(self, trial: FrozenTrial) -> None:
        """Keep a trial that has ended."""
        if self._runs is not None:
            runs, about = self._runs, self._study.user_attrs.get(MANIFEST, {})
            one = record_of(trial, study=self._study.study_name, about=about, epochs_per_fold=self._epochs)
            self._try(f"Trial {trial.number}", lambda: runs.keep(one))

    def close(self) -> None:
        """Write what is not written yet."""
        if self._runs is not None:
            self._try("The end of it", self._runs.close)

    def _open(self, logger: dict[str, Any], folder: Path) -> None:
        del logger["_target_"]
        if self._name == "wandb":
            from search.workers.tracking.wandb_runs import WandbRuns

            self._runs = WandbRuns(folder, **logger)
        else:
            from search.workers.tracking.mlflow_runs import MlflowRuns

            self._runs = MlflowRuns(folder, study=self._study.study_name, **logger)

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # of a server, a disk, or their own
            kind = type(error).__name__  # its words may hold an address with a password
            if kind not in self._said:
                self._said.add(kind)
                self._announce(f"{what} could not be kept by {self._name} ({kind}); the study's database has it.")
