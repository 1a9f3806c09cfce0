"""Frozen experiments: a complete resolved config and where its numbers come from, in one YAML file.

The file is loaded as a whole, never merged over defaults that may have changed since. Its last line is a
checksum: the SHA-256 of all bytes before that line.
"""

import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml

from datasets.errors import UserError
from models.bounds import Interval
from search.annotations import build, check_keys, convert
from search.schema import REQUIRED_KEYS, RUN_KEYS, RunConfig, run_config

SCHEMA_VERSION = 3
_SINCE_VERSION = {"model": 2, "n_target": 2}  # keys of the provenance that older files lack
# What training did before it had these settings, in files of version 2 and older.
_TRAINER_BEFORE_3 = {"loss": "mse", "huber_delta": 1.0, "standardize_targets": False}
_CHECKSUM = "  checksum: "
_CHANGED = "{path} was changed since it was written: its checksum does not match its bytes."
_HEADER = "# A frozen flipsearch experiment. Check it: python run_study.py verify FILE\n"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an experiment's numbers come from.

    `values[fold][epoch]` is the validation Spearman after each epoch (null where it could not be computed),
    `best_epochs[fold]` the epoch whose weights were kept, `value` the Spearman of the kept weights' predictions,
    all folds pooled, `protocol` what is said of `validation` where the value is shown.
    `machine` is what has to be equal for the numbers to be equal bit for bit, `micro_batch_tokens`
    how much of a batch was computed at once (null: all), `backbone` the hash of the pretrained weights (null: none).
    `model` is the study's name for the model, `n_target` how many finished trials it was to have (null: not known).
    """

    schema_version: int
    study: str
    model: str | None
    trial: int
    n_finished: int
    n_target: int | None
    date: str
    seed: int
    threads: Annotated[int, Interval(ge=1)]
    micro_batch_tokens: Annotated[int, Interval(ge=1)] | None
    backbone: str | None
    device: str
    protocol: str
    value: float
    values: list[list[float | None]]
    best_epochs: list[int]
    n_parameters: int
    seconds: float
    data: str
    data_hash: str
    weight_hashes: list[str]
    versions: dict[str, Any]
    machine: dict[str, Any]
    git_commit: str | None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A config and its provenance."""

    config: RunConfig
    provenance: Provenance


def freeze(experiment: Experiment, path: Path) -> None:
    """Write the experiment beside `path` and move it into place."""
    config = asdict(experiment.config)
    if config["table"] is None:
        del config["table"]
    elif config["table"]["group_rule"] is None:
        del config["table"]["group_rule"]  # as the file had it before there was such a field
    text = seal(_HEADER + _dump({**config, "provenance": asdict(experiment.provenance)}))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def seal(text: str) -> str:
    """The text with its last line, the checksum, made right; one is added where there is none."""
    lines = text.splitlines(keepends=True)
    body = "".join(lines[:-1] if lines and lines[-1].startswith(_CHECKSUM) else lines)
    return f"{body}{_CHECKSUM}{_digest(body.encode())}\n"


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises:
        UserError: The file is missing, malformed, of a newer schema, was changed since it was written, or names
            a class or setting that is not allowed.
    """
    tree = _read(path)
    provenance = dict(tree.pop("provenance"))
    version = convert(Annotated[int, Interval(ge=1)], provenance.get("schema_version"), f"{path}: schema_version")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this flipsearch knows {SCHEMA_VERSION}: use a newer flipsearch."
        )
    provenance.pop("checksum", None)
    for key, since in _SINCE_VERSION.items():
        if version < since:
            provenance.setdefault(key, None)
    if version < 3 and isinstance(tree.get("trainer"), Mapping):
        tree["trainer"] = {**_TRAINER_BEFORE_3, **tree["trainer"]}
    try:
        check_keys(tree, RUN_KEYS, REQUIRED_KEYS, "config")
        known = build(Provenance, provenance, "provenance")
        _check_history(known)
        return Experiment(config=run_config(tree), provenance=known)
    except UserError as error:
        raise UserError(f"{path} is not a valid experiment: {error}") from None


def is_experiment_of(path: Path, study: str) -> bool:
    """Whether a new export of the study may replace a file: it is an earlier one, unchanged, or does not exist."""
    if not path.exists() and not path.is_symlink():
        return True
    try:
        return bool(_read(path)["provenance"].get("study") == study)
    except UserError:
        return False


def is_same_export(path: Path, experiment: Experiment) -> bool:
    """Whether the file holds this experiment already, whenever and from whichever commit it was written."""
    try:
        before = load_experiment(path)
    except UserError:
        return False
    then = before.provenance
    now = replace(experiment.provenance, date=then.date, git_commit=then.git_commit)
    return before == replace(experiment, provenance=now)


def checksum(path: Path) -> str:
    """The checksum that stands in an experiment file, `sha256:...`.

    Raises:
        UserError: The file cannot be read, is no experiment, or was changed since it was written.
    """
    return str(_read(path)["provenance"].get("checksum"))


def first_difference(
    before: Sequence[Sequence[float | None]], after: Sequence[Sequence[float | None]]
) -> tuple[int, int, float | None, float | None] | None:
    """(fold, epoch, value before, value after) of the first validation that is not the same, bit for bit."""
    for fold in range(max(len(before), len(after))):
        old = before[fold] if fold < len(before) else ()
        new = after[fold] if fold < len(after) else ()
        for epoch in range(max(len(old), len(new))):
            a = old[epoch] if epoch < len(old) else None
            b = new[epoch] if epoch < len(new) else None
            if a != b or (epoch < len(old)) != (epoch < len(new)):
                return fold, epoch, a, b
    return None


def today() -> str:
    """The time now, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise UserError(f"The experiment {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not an experiment: it is not text in UTF-8.") from None
    body, _, last = data.rstrip(b"\n").rpartition(b"\n")
    is_intact = last == f"{_CHECKSUM}{_digest(body + bytes([10]))}".encode()
    if last.startswith(_CHECKSUM.encode()) and not is_intact:
        raise UserError(_CHANGED.format(path=path))
    try:
        tree = yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML lets through whatever its constructors raise, a RecursionError among them
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("provenance"), Mapping):
        raise UserError(
            f"{path} is not a frozen experiment: it has no provenance. A search writes one into its --export-dir."
        )
    if not is_intact:
        raise UserError(_CHANGED.format(path=path))
    return dict(tree)


class _Loader(yaml.SafeLoader):
    """Plain values alone: aliases would let a short file stand for one that fills the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _check_history(provenance: Provenance) -> None:
    if not provenance.values or len(provenance.values) != len(provenance.best_epochs):
        raise UserError("provenance.values and provenance.best_epochs differ in their number of folds.")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _dump(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(_plain(tree), sort_keys=False, allow_unicode=True, width=110)


def _plain(value: Any) -> Any:
    """Lists and mappings of plain values: YAML has no tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
