"""What was submitted for a study: a folder for each time, `RUNS/STUDY/slurm/DATE/`, with script, logs and a record.

Others may write below the runs folder. So a record is believed only if it is this user's own plain file and holds what
we write; what it names is compared with the queue before anything is cancelled.
"""

import datetime
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import write_text
from search.cluster.slurm_script import STORAGE_FILE
from search.machine.foreign_files import read_regular
from search.options.values import is_study_name

FOLDER = "slurm"
SCRIPT = "job.sh"
_RECORD = "job.json"
_DATE = r"[0-9]{8}-[0-9]{6}(-[0-9]{1,3})?"
_MOST_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Record:
    """An array that was submitted: its number at SLURM, its study, how many jobs, and when, in UTC."""

    job: int
    study: str
    n_jobs: int
    submitted: str


def new_folder(runs: Path, study: str) -> Path:
    """Make a folder for what is submitted now, and return its absolute path.

    Raises:
        UserError: It cannot be made.
    """
    parent = folder_of(runs, study)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for ending in ("", *(f"-{i}" for i in range(2, 1000))):
            try:
                (parent / (date + ending)).mkdir(mode=0o755)
            except FileExistsError:
                continue
            return parent / (date + ending)
    except OSError as error:
        raise UserError(f"The folder {parent} cannot be written ({error.strerror}): name another --runs-dir.") from None
    raise UserError(f"The folder {parent} holds a thousand of this second: wait for the next one.")


def folder_of(runs: Path, study: str) -> Path:
    """Where what is submitted for a study is kept, as an absolute path."""
    return runs.absolute() / study / FOLDER


def write_storage(folder: Path, url: str, password: str | None) -> None:
    """Write the database's URL, and the password of the environment, to a file that nobody else may read."""
    text = f"{url}\n{password or ''}\n"
    if text.count("\n") != 2 or "\0" in text:
        raise UserError("The storage URL or $PGPASSWORD has more than one line: write line ends in a URL as %0A.")
    descriptor = os.open(folder / STORAGE_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def write_record(folder: Path, record: Record) -> None:
    """Write down what was submitted."""
    write_text(folder / _RECORD, json.dumps(asdict(record)) + "\n")


def read_records(runs: Path, study: str | None) -> Iterator[tuple[Path, Record]]:
    """The folders of what was submitted for a study, or for all, and their records, the earliest first of each study.

    Raises:
        UserError: A record is not one that we wrote.
    """
    studies = [study] if study is not None else sorted(path.name for path in _folders(runs) if is_study_name(path.name))
    for name in studies:
        for folder in sorted(_folders(folder_of(runs, name))):
            if re.fullmatch(_DATE, folder.name) and os.path.lexists(folder / _RECORD):
                yield folder, _read(folder / _RECORD, name)


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"The folder {parent} cannot be read ({error.strerror}).") from None


def _read(path: Path, study: str) -> Record:
    remedy = "move it away; `squeue` and `scancel` know the jobs too"
    try:
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & stat.S_IWOTH:
            raise UserError(f"The record {path} is not believed, because somebody else may have written it: {remedy}.")
        found = json.loads(read_regular(path, most_bytes=_MOST_BYTES))
    except OSError as error:
        raise UserError(f"The record {path} cannot be read ({error.strerror}): {remedy}.") from None
    except (ValueError, RecursionError):
        found = None
    wanted = {"job": int, "study": str, "n_jobs": int, "submitted": str}
    if (
        not isinstance(found, dict)
        or {key: type(value) for key, value in found.items()} != wanted
        or found["study"] != study
        or not 0 < found["job"] < 2**31
        or not 0 < found["n_jobs"] < 10**9
        or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}", found["submitted"])
    ):
        raise UserError(f"The record {path} is not one of study {study!r} that `submit` wrote: {remedy}.")
    return Record(**found)
