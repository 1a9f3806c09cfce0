"""The ledger beside an experiment: one line of JSON for every reading of the test set, appended and never changed."""

import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from filelock import BaseFileLock, FileLock

from datasets.common.errors import UserError
from search.config.type_checks import Text, build, convert, shown
from search.machine.foreign_files import read_regular
from search.storage.rows.value_checks import ID
from search.study.question import Question

ENDING = ".ledger.jsonl"
_MOST_BYTES = 2**28
_SHOWN = "train_and_validation"
_OF_SPEARMAN = {"per_seed": list[float], "ensemble": float, "over_sequences": tuple[float, float]}
_NEWER_VALUES = ("over_sequences",)
_NEWER = ("members", "fold_column", "fold", "fold_names", "table_hash", "settings_hash")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One config that was measured on the test set.

    when: in UTC. experiment: the stem of its file. checksum: that of the file. study, trial: where the config comes
    from. task, model, data, data_hash, official: what it was measured on. seeds: those it was trained with. n_epochs:
    for how long. code: `git_commit` and `versions`. machine: its kind. values: of each way to train
    (`train_and_validation`, `train`) the metrics `per_seed`, by name a list in the order of the seeds, and those of the
    `ensemble` of the seeds, by name, and `over_sequences`, by name [low, high], which older lines lack. id: tells it
    from all others, wherever it is noted. target, split: those of a user's table (`search.study.question`), which older
    lines and tasks with a name lack. members: of an ensemble what it consists of, in words; study and trial are then
    those of the first. fold_column, fold, fold_names, table_hash: where the test set is a fold of a table, its column,
    which fold, the names of all, and the table's content; None elsewhere. settings_hash: how that table is read, which
    older lines lack.
    """

    when: str
    experiment: str
    checksum: str
    study: str
    trial: int
    task: str
    model: str
    data: str
    data_hash: str
    official: bool
    n_test: int
    seeds: list[int]
    n_epochs: int
    code: dict[str, Any]
    machine: dict[str, Any]
    values: dict[str, Any]
    id: Annotated[str, Text(ID, "32 hexadecimal digits")] = field(default_factory=lambda: uuid.uuid4().hex)
    target: str | None = None
    split: str | None = None
    members: list[str] | None = None
    fold_column: str | None = None
    fold: str | None = None
    fold_names: list[str] | None = None
    table_hash: str | None = None
    settings_hash: str | None = None

    @property
    def of(self) -> str:
        """`trial 7`, or `ensemble of 3`: what was measured."""
        return f"trial {self.trial}" if self.members is None else f"ensemble of {len(self.members)}"

    @property
    def question(self) -> Question:
        """What the test set asked that was read."""
        return Question(task=self.task, data=self.data, data_hash=self.data_hash, target=self.target, split=self.split)


def append(ledger: Path, readings: Sequence[Reading]) -> None:
    """Write readings to the end of a ledger, so that they are on the disk when this returns.

    Raises:
        UserError: The ledger has a broken line, or cannot be written; it is as it was then.
    """
    lines = [json.dumps(_tree(reading), ensure_ascii=False, allow_nan=False) + "\n" for reading in readings]
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(ledger):
            read(ledger)
            is_new = not ledger.exists()
            _write(ledger, "".join(lines).encode())
            if is_new:
                _sync_folder(ledger.parent)
    except OSError as error:
        raise UserError(
            f"The ledger {ledger} cannot be written ({error.strerror or error}), and no test result is shown that it "
            "does not hold: make room, or make its folder writable."
        ) from None


def _tree(reading: Reading) -> dict[str, Any]:
    """A reading as it is written: without what is not used and once was not there."""
    return {key: value for key, value in asdict(reading).items() if key not in _NEWER or value is not None}


def lock_of(ledger: Path) -> BaseFileLock:
    """The lock that whoever writes to a ledger, or leaves files beside it, holds meanwhile."""
    return FileLock(ledger.with_name(f".{ledger.name}.lock"))


def read(ledger: Path) -> tuple[Reading, ...]:
    """All readings of a ledger, the oldest first; none where there is no file.

    Raises:
        UserError: A line is broken; the file and the line's number are named.
    """
    try:
        content = read_regular(ledger, most_bytes=_MOST_BYTES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UserError(f"The ledger {ledger} cannot be read ({error.strerror}): see to it.") from None
    lines = content.split(b"\n")
    if lines[-1]:
        _reject(ledger, len(lines), "it does not end")
    found = []
    n_equal: Counter[bytes] = Counter()
    for number, line in enumerate(lines[:-1], start=1):
        try:
            tree = json.loads(line.decode())
            if isinstance(tree, dict) and "id" not in tree:
                tree["id"] = _id_of(line, n_equal[line])
                n_equal[line] += 1
            reading = build(Reading, tree, "reading")
            _check_values(reading.values)
            found.append(reading)
        except UserError as error:
            _reject(ledger, number, str(error).rstrip("."))
        except (ValueError, RecursionError):
            _reject(ledger, number, "it is no JSON")
    return tuple(found)


def readings(export_dir: Path, warn: Callable[[str], None]) -> tuple[Reading, ...]:
    """The readings in all ledgers of a folder that can be read; `warn` is told what is wrong with the others."""
    found, broken = readable(export_dir)
    for error in broken:
        warn(str(error))
    return found


def readable(export_dir: Path) -> tuple[tuple[Reading, ...], list[UserError]]:
    """The readings in the ledgers that can be read, the oldest first, and what is wrong with the others.

    A copied line counts once. A line with the id of another that is about another study or test set takes nobody's
    place: whoever adds a ledger hides no reading.
    """
    found: dict[tuple[str, str, Question], Reading] = {}
    broken = []
    for path in sorted(export_dir.glob(f"*{ENDING}")):
        try:
            found |= {(reading.id, reading.study, reading.question): reading for reading in read(path)}
        except UserError as error:
            broken.append(error)
    return tuple(sorted(found.values(), key=lambda reading: reading.when)), broken


def _check_values(values: Mapping[str, Any]) -> None:
    """Refuse values of which tables and reports could make nothing. Raises a UserError."""
    if _SHOWN not in values:
        raise UserError(f"reading.values.{_SHOWN} is missing")
    for way, own in values.items():
        where = f"reading.values.{shown(way)}"
        tree = convert(dict[str, Any], own, where)
        for name, annotation in _OF_SPEARMAN.items():
            if name in tree or name not in _NEWER_VALUES:
                known = convert(dict[str, Any], tree.get(name), f"{where}.{name}")
                convert(annotation, known.get("spearman"), f"{where}.{name}.spearman")
        if not tree["per_seed"]["spearman"]:
            raise UserError(f"{where}.per_seed.spearman is empty")
        if "coverage" in tree:
            known = convert(dict[str, Any], tree["coverage"], f"{where}.coverage")
            convert(float, known.get("share"), f"{where}.coverage.share")
            for part in convert(list[dict[str, Any]], known.get("by_mutations"), f"{where}.coverage.by_mutations"):
                for name, annotation in (("mutations", str), ("n", int), ("share", float)):
                    convert(annotation, part.get(name), f"{where}.coverage.by_mutations.{name}")


def _id_of(line: bytes, n_before: int) -> str:
    """The id of a line from before readings had one: the same wherever it stands, another for its equal."""
    return hashlib.sha256(b"%d " % n_before + line).hexdigest()[:32]


def _reject(ledger: Path, number: int, why: str) -> None:
    raise UserError(
        f"{ledger}, line {number} is no reading of a test set ({why}): a ledger is never mended by the program; "
        "restore the line, from git for one, or move the file away for good."
    )


def _write(ledger: Path, content: bytes) -> None:
    """Append all of it or, on a full disk, nothing."""
    with ledger.open("ab", buffering=0) as file:
        n_before = os.fstat(file.fileno()).st_size
        try:
            n_written = 0
            while n_written < len(content):
                n_written += file.write(content[n_written:])
            os.fsync(file.fileno())
        except OSError:
            file.truncate(n_before)
            raise


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file as lasting as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
