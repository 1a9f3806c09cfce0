"""What people find in the dashboard beside a trial: its checkpoints, log and metrics; and which of them stay.

Artifacts are files in `<runs>/artifacts`, named by an id that stands in the database. They are the trial's own files
under a second name (hard links), so they cost no space and no time. Checkpoints of the best trials are kept in
both places, those of others in neither. Since values never change, a trial that is not among the best never will be:
workers need not agree before they remove its files, they may only find them gone.
"""

import hashlib
import json
import mimetypes
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError
from datasets.common.files import link
from search.machine.foreign_files import open_regular
from search.storage.attributes import artifacts_of
from search.storage.optuna_internals import ARTIFACTS_ATTR_PREFIX
from search.study.ranking import rank, rank_of
from search.study.trials.tally import Tally
from search.training.predictions import VALIDATION
from search.training.result import LOG, Result, trial_folder

if TYPE_CHECKING:
    from search.study.artifact_store import SharedFiles

ARTIFACTS = "artifacts"
"""The folder below the runs directory."""
CHECKPOINT = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """The artifacts of one study, as one process handles them.

    Args:
        directory: The study's folder, `<runs>/<study>`.
        keep_top: Of how many of the best trials checkpoints are kept.
        announce: Told, in a sentence, what could not be kept or removed.
        shared: Where other machines find the weights, and with them the predictions; None is nowhere.
    """

    directory: Path
    keep_top: int
    announce: Callable[[str], None]
    shared: "SharedFiles | None" = None
    _kept: list[FrozenTrial] = field(default_factory=list)
    _best_ranks: list[tuple[float, float]] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)

    def checkpoints(self, number: int, result: Result) -> list[Path]:
        """Where the checkpoints of a trial stand; the trial itself may have known them by a relative path."""
        return [trial_folder(self.directory, number) / Path(name).name for name in result.checkpoints]

    def plan(self, number: int, result: Result) -> dict[Path, str]:
        """The files of a running trial that are worth keeping, each with the id of its artifact.

        Checkpoints are among them unless `keep_top` other trials were better when `remove_others` looked last:
        to look once more would cost as much as all the rest.
        """
        assert result.value is not None
        own = rank(result.value, result.excess_rise)
        # Among equals the one with the lower number counts as better, and that one may well end later.
        n_better = sum(other < own for other in self._best_ranks)
        files = self.checkpoints(number, result) if n_better < self.keep_top else []
        folder = trial_folder(self.directory, number)
        others = [folder / LOG, *sorted(folder.glob("logs/fold*/metrics.csv"))]
        if self.shared is not None:
            others.append(folder / VALIDATION)
        files += [path for path in others if _has_text(path)]
        return {path: str(uuid.uuid4()) for path in files}

    def keep(self, number: int, files: Mapping[Path, str]) -> None:
        """Put the files where the dashboard finds them, by the ids that stand in the database already.

        The other way round a process killed in between would leave files that nobody knows of, and nobody removes.
        """
        try:
            for path, artifact in files.items():
                link(path, self._store / artifact)
        except OSError as error:
            self.announce(
                f"The artifacts of trial {number} could not be kept in {self._store} ({error.strerror}); "
                "the trial itself is not touched by it."
            )
        for path, artifact in files.items():
            if self.shared is not None and path.suffix == CHECKPOINT:
                self._tried(partial(self.shared.put, path, artifact))

    def fetch(self, trial: FrozenTrial) -> None:
        """Bring the weights and predictions of a trial here, where other machines have kept them."""
        if self.shared is not None:
            self._tried(partial(self.shared.fetch, trial, self.directory))

    def fetch_predictions(self, trials: Sequence[FrozenTrial]) -> None:
        """Bring what these trials predicted of validation sequences here; the first that goes wrong is the last."""
        if self.shared is not None:
            shared = self.shared
            self._tried(lambda: [shared.fetch(trial, self.directory, only=VALIDATION) for trial in trials])

    def _tried(self, action: Callable[[], object]) -> None:
        """Do what a trial can do without; what goes wrong is announced, once: there may be a file for each fold."""
        try:
            action()
        except UserError as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                self.announce(f"{error} The trial itself is not touched by it.")

    def remove_others(self, trials: Sequence[FrozenTrial]) -> None:
        """Remove the checkpoints of finished trials that are not among the best, and of those that they repeated.

        One that failed keeps its files until another has finished in its place.
        """
        self._kept.extend(self._tally.see(trials))
        best_now = self._tally.best[: self.keep_top]
        self._best_ranks[:] = [rank_of(trial) for trial in best_now]
        best = {trial.number for trial in best_now}
        for trial in self._kept:
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                for useless in self._tally.retries.chain(trial):
                    if useless.number not in best:
                        self._remove(useless)
        self._kept[:] = [trial for trial in self._kept if trial.number in best]

    @cached_property
    def _tally(self) -> Tally:
        return Tally(self.keep_top)

    def _remove(self, trial: FrozenTrial) -> None:
        folder = trial_folder(self.directory, trial.number)
        # A worker that joins a study of thousands of trials asks this of each; most have no folder here.
        paths = list(folder.glob(f"fold*{CHECKPOINT}")) if folder.is_dir() else []
        for artifact, name in artifacts_of(trial.system_attrs):
            if name.endswith(CHECKPOINT) and name != VALIDATION:
                paths.append(self._store / artifact)
                if self.shared is not None:
                    self._tried(partial(self.shared.remove, artifact))
        if not paths:
            return
        runs = self.directory.parent.resolve()
        try:
            for path in paths:
                if path.parent.resolve().is_relative_to(runs):  # no link leads the removal elsewhere
                    path.unlink(missing_ok=True)
        except OSError as error:
            self.announce(f"{error.filename} could not be removed ({error.strerror}).")

    @property
    def _store(self) -> Path:
        return self.directory.parent / ARTIFACTS


def attributes_of(files: Mapping[Path, str]) -> dict[str, str]:
    """The system attributes by which Optuna and its dashboard know artifacts."""
    return dict(artifact_attribute(artifact, _shown_name(path)) for path, artifact in files.items())


def artifact_attribute(artifact: str, filename: str) -> tuple[str, str]:
    """Key and value of the system attribute that names an artifact."""
    mimetype, encoding = mimetypes.guess_type(filename)
    about = {
        "artifact_id": artifact,
        "filename": filename,
        "mimetype": mimetype or "application/octet-stream",
        "encoding": encoding,
    }
    return f"{ARTIFACTS_ATTR_PREFIX}{artifact}", json.dumps(about)


def hash_or_missing(path: Path) -> str:
    """`sha256:` and the digits of a file's hash; "missing" if somebody removed it.

    Raises:
        OSError: There is something else than a file: a pipe, say.
    """
    try:
        with open_regular(path) as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"


def _shown_name(path: Path) -> str:
    return f"{path.parent.name}-{path.name}" if path.name == "metrics.csv" else path.name


def _has_text(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
