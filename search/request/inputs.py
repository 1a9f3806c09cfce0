"""What options stand for: data, places, slots, the database, and the folders that are written."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.task import Task
from search.config.run_config import language_models
from search.machine.hardware import mig_devices, usable_cores, visible_gpus
from search.machine.memory import free_memory_bytes
from search.storage.hide_url import environment_url
from search.study.run_names import CACHE, DATABASE, is_reserved

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.storage.database import Database
    from search.study.config import StudyConfig
    from search.workers.slots import Slot

_PATIENCE_S = 2.0
"""Somebody looks on."""


def load_split(
    task: Task, data_dir: Path | None, runs: Path, announce: Callable[[str], None], *, weights_dir: Path | None = None
) -> "PreparedSplit":
    """The checked training and validation rows of a task; `weights_dir` is for scores of a language model."""
    # Imported as late as this, so that a mistake in the configuration does not wait for NumPy.
    from datasets.splits.prepared import prepare

    if task.scores is not None:
        task = replace(task, scores=task.scores.with_models(language_models(weights_dir, announce)))
    return prepare(task, data_dir=data_dir, cache_dir=runs / CACHE / "splits", announce=announce)


def places_of(weights_dir: Path | None, runs: Path) -> Places:
    """Where runs find weights and keep caches. Absolute: children have a working directory of their own."""
    if weights_dir is not None and not weights_dir.is_dir():
        raise UserError(f"--weights-dir {weights_dir} is not a folder: name the one that holds the checkpoints.")
    return Places(weights_dir=weights_dir and weights_dir.absolute(), cache_dir=(runs / CACHE).absolute())


def gpus_of(n_workers: int | None, config: "StudyConfig") -> Sequence[str]:
    """The GPUs for the workers of this call, as CUDA_VISIBLE_DEVICES names them."""
    if config.defaults["trainer"]["accelerator"] == "cpu":
        return ()
    gpus = visible_gpus()
    if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ and n_workers != 1:
        return mig_devices() or gpus
    return gpus


def slots_of(
    n_workers: int | None, trials_per_gpu: int, n_trials: int, config: "StudyConfig", threads: int | None
) -> "tuple[Slot, ...]":
    """One slot for each worker of this call; `threads` are the study's (`search.study.recorded.noted_threads`)."""
    from search.workers.slots import make_slots  # what a run is takes a while to import, and `status` asks for none

    return make_slots(
        n_workers,
        trials_per_gpu=trials_per_gpu,
        gpus=gpus_of(n_workers, config),
        n_cores=usable_cores(),
        threads=config.defaults["trainer"]["threads"] or threads,
        n_trials=n_trials,
        free_bytes=free_memory_bytes(),
    )


def url_of(storage: str | None, runs: Path) -> str:
    """The database's URL: as given, or of the environment, or that of the file in the runs folder."""
    from search.storage.url import default_url

    return storage or environment_url() or default_url(runs)


def check_study_name(name: str, storage: str | None, runs: Path) -> None:
    """Refuse, before anything is made, a new study that would share its files with the program or another study.

    Raises:
        UserError: Its name is taken, in that way, and there is no study of that name yet.
    """
    if is_reserved(name, _database_in(runs, storage or environment_url())):
        if _has_study(name, storage, runs):
            return
        raise UserError(
            f"A study cannot be called {name!r}, which is a name of the program's own below {runs} or beside "
            "experiments: choose another --study-name."
        )
    folder = runs / name
    if folder.exists() and not (folder.is_dir() and name in os.listdir(runs)):
        raise UserError(
            f"{folder}, where the files of study {name!r} belong, is no folder, or belongs to a name in another case: "
            "choose another --study-name, or move it away."
        )


def _database_in(runs: Path, url: str | None) -> str:
    """The name of the SQLite file in the runs folder; told without SQLAlchemy, which takes a while to import."""
    path = Path((url or "").partition("?")[0].partition("///")[2])
    return path.name if url and url.startswith("sqlite") and path.absolute().parent == runs.absolute() else DATABASE


def _has_study(name: str, storage: str | None, runs: Path) -> bool:
    from search.storage.url import parse_url, sqlite_path

    file = sqlite_path(parse_url(url_of(storage, runs)))
    if file is not None and not file.exists():
        return False
    return name in open_existing(storage, runs).storage.study_names()


def check_writable(folder: Path) -> None:
    """Make the folder and write into it, so that nothing trains whose result could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"The directory {folder} cannot be written ({error.strerror}): "
            "name another with --runs-dir or --export-dir."
        ) from None


def check_folders(runs: Path, export_dir: Path, named: str | None) -> None:
    """Refuse folders that cannot be written; `named`: the study, if it is known by now, whose export has a place."""
    for folder in (runs, runs / CACHE / "checks", export_dir):
        check_writable(folder)
    if named is not None:
        check_export(export_dir / f"{named}.yaml", named)


def check_export(export: Path, study: str) -> None:
    """Refuse, before anything trains, a file that is no experiment; one that has to stay is left to the export."""
    from search.experiments.experiment import is_experiment
    from search.experiments.files import check_weights_folder, weights_folder

    check_writable(export.parent)
    if (export.exists() or export.is_symlink()) and not is_experiment(export):
        raise UserError(
            f"{export} exists and is not an export of study {study!r}: move it away, or choose another --export-dir "
            "or --study-name."
        )
    folder = weights_folder(export)
    check_weights_folder(folder)


def open_existing(storage: str | None, runs: Path) -> "Database":
    """The database of a URL, or of the environment, or the file in the runs folder.

    Raises:
        UserError: There is none, or it does not answer.
    """
    from search.storage.database import open_database

    return open_database(url_of(storage, runs), create=False, patience_s=_PATIENCE_S)


def existing(storage: str | None, runs: Path) -> "Database | None":
    """The same database; None where there is none, or it does not answer, and nothing needs it to."""
    try:
        return open_existing(storage, runs)
    except UserError:
        return None
