"""Frozen experiments: a complete resolved config and where its numbers come from, in one YAML file.

The file is loaded as a whole, never merged over defaults that may have changed since. Its last line is a
checksum: the SHA-256 of all bytes before that line.
"""

import datetime
import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml

from datasets.candidates.training_domain import Familiar, Origin
from datasets.common.errors import UserError
from datasets.common.files import write_text
from models.bounds import Interval, NonNegativeInt
from search.config.run_config import OPTIONAL_KEYS, RunConfig, Seed, Threads, Tokens, run_config
from search.config.type_checks import Text, build, check_keys, convert
from search.experiments.requirements import look_for_model
from search.machine.foreign_files import load_plain_yaml, read_regular
from search.stats.calibration import Calibration

SCHEMA_VERSION = 6
_SINCE_VERSION = {"model": 2, "n_target": 2, "study_id": 4}  # keys of the provenance that older files lack
# What training did before it had these settings, in files of version 2 and older.
_TRAINER_BEFORE_3 = {"loss": "mse", "huber_delta": 1.0, "standardize_targets": False}
_FAMILIAR, _CALIBRATION = "familiar", "calibration"
_CHECKSUM = "  checksum: "
_CHANGED = "{path} was changed since it was written: its checksum does not match its bytes."
_HEADER = "# A frozen flipsearch experiment. Check it: python run_study.py verify FILE\n"
_MOST_BYTES = 8 * 2**20  # a value after each of 100,000 epochs takes 2 MB
_LONGEST_TEXT = 1000
_LONGEST_SEQUENCE = 100_000

_Hash = Annotated[str, Text(r"sha256:[0-9a-f]{64}|missing", "sha256: and 64 hexadecimal digits, or missing")]
_DataHash = Annotated[str, Text(r"[0-9a-f]{64}", "64 hexadecimal digits")]
_StudyId = Annotated[str, Text(r"[0-9a-f]{32}", "32 hexadecimal digits")]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an experiment's numbers come from.

    `values[fold][epoch]` is the validation Spearman after each epoch (null where it could not be computed),
    `best_epochs[fold]` the epoch whose weights were kept, `value` the Spearman of the kept weights' predictions,
    all folds pooled, `protocol` what is said of `validation` where the value is shown.
    `machine` is what has to be equal for the numbers to be equal bit for bit, `micro_batch_tokens`
    how much of a batch was computed at once (null: all), `backbone` the hash of the pretrained weights (null: none).
    `study_id` is the identity of the study (null: made before studies had one), which a copy of its database shares,
    `model` is the study's name for the model, `n_target` how many finished trials it was to have (null: not known).
    `model_source` is the hash of the model's source where that is one outside the checkout; files of others lack it.
    """

    schema_version: int
    study: str
    study_id: _StudyId | None
    model: str | None
    trial: NonNegativeInt
    n_finished: NonNegativeInt
    n_target: NonNegativeInt | None
    date: str
    seed: Seed
    threads: Threads
    micro_batch_tokens: Tokens | None
    backbone: str | None
    device: str
    protocol: str
    value: float
    values: list[list[float | None]]
    best_epochs: list[NonNegativeInt]
    n_parameters: Annotated[int, Interval(ge=0)]
    seconds: Annotated[float, Interval(ge=0)]
    data: str
    data_hash: _DataHash
    weight_hashes: list[_Hash]
    versions: dict[str, Any]
    machine: dict[str, Any]
    git_commit: str | None
    model_source: _Hash | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A config, its provenance, and what the rows were like that its weights were trained on.

    `familiar` lets `predict` do without the training data, `calibration` is what intervals are made of; both None in
    files of older versions, and of trials that ran before; the second also without the trial's validation predictions.
    """

    config: RunConfig
    provenance: Provenance
    familiar: Mapping[Origin, Familiar] | None = None
    calibration: Calibration | None = None


def freeze(experiment: Experiment, path: Path) -> None:
    """Write the experiment beside `path` and move it into place."""
    config = asdict(experiment.config)
    config = {key: value for key, value in config.items() if key not in OPTIONAL_KEYS or value is not None}
    if "table" in config and config["table"]["group_rule"] is None:
        del config["table"]["group_rule"]  # as the file had it before there was such a field
    if experiment.familiar is not None:
        config[_FAMILIAR] = {origin: asdict(familiar) for origin, familiar in experiment.familiar.items()}
    if experiment.calibration is not None:
        config[_CALIBRATION] = asdict(experiment.calibration)
    known = asdict(experiment.provenance).items()
    provenance = {key: value for key, value in known if (key, value) != ("model_source", None)}  # as above
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, seal(_HEADER + _dump({**config, "provenance": provenance})))


def seal(text: str) -> str:
    """The text with its last line, the checksum, made right; one is added where there is none."""
    lines = text.splitlines(keepends=True)
    body = "".join(lines[:-1] if lines and lines[-1].startswith(_CHECKSUM) else lines)
    return f"{body}{_CHECKSUM}{_digest(body.encode())}\n"


def load_experiment(path: Path, announce: Callable[[str], None] = lambda sentence: None) -> Experiment:
    """Read and check an experiment file; `announce` is told where its model, outside the checkout, was changed since.

    Raises:
        UserError: The file is missing, malformed, of a newer schema, was changed since it was written, names a class or
            setting that is not allowed, or a model outside the checkout that is not here.
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
    look_for_model(path, tree, provenance, announce)
    try:
        _check_texts(tree, _LONGEST_SEQUENCE)
        familiar = _build_familiar(tree.pop(_FAMILIAR)) if _FAMILIAR in tree else None
        known = build(Calibration, tree.pop(_CALIBRATION), _CALIBRATION) if _CALIBRATION in tree else None
        where_from = build_provenance(provenance)
        return Experiment(config=run_config(tree), provenance=where_from, familiar=familiar, calibration=known)
    except UserError as error:
        raise UserError(f"{path} is not a valid experiment: {error}") from None


def _build_familiar(tree: Any) -> Mapping[Origin, Familiar]:
    """What is known of training rows, from plain values."""
    tree, origins = convert(dict[str, Any], tree, _FAMILIAR), get_args(Origin)
    check_keys(tree, origins, origins, _FAMILIAR)
    found = {}
    for origin in origins:
        where = f"{_FAMILIAR}.{origin}"
        try:
            found[origin] = build(Familiar, tree[origin], where)
        except UserError as error:
            raise UserError(str(error) if where in str(error) else f"{where}.{error}") from None
    return found


def build_provenance(tree: Mapping[str, Any]) -> Provenance:
    """Checked provenance from plain values, wherever they come from.

    Raises:
        UserError: A value is missing, unknown, or not what it can be.
    """
    _check_texts(tree, _LONGEST_TEXT)
    if any(unicodedata.category(letter) == "Cc" for text in _texts(tree) for letter in text):
        raise UserError("A text of the provenance holds control characters: expected letters that a terminal shows.")
    known = build(Provenance, tree, "provenance")
    n_folds = len(known.values)
    if not n_folds or n_folds != len(known.best_epochs):
        raise UserError("provenance.values and provenance.best_epochs differ in their number of folds.")
    if known.weight_hashes and len(known.weight_hashes) != n_folds:
        raise UserError("provenance.values and provenance.weight_hashes differ in their number of folds.")
    for fold, (values, epoch) in enumerate(zip(known.values, known.best_epochs, strict=True)):
        if epoch >= len(values):
            raise UserError(
                f"provenance.best_epochs[{fold}]={epoch} is not valid: expected one of the {len(values)} epochs of "
                "provenance.values, counted from 0."
            )
    return known


def is_experiment(path: Path) -> bool:
    """Whether the file is an experiment, of whatever version, that nobody changed since it was written."""
    try:
        _read(path)
        return True
    except UserError:
        return False


def is_same_export(path: Path, experiment: Experiment) -> bool:
    """Whether the file holds this experiment already, whenever and from whichever commit it was written."""
    try:
        before = load_experiment(path)
    except UserError:
        return False
    then, now = before.provenance, experiment.provenance
    now = replace(now, date=then.date, git_commit=then.git_commit, schema_version=then.schema_version)
    now = replace(now, study_id=then.study_id and now.study_id)
    # What older files lack is no reason to replace them, confirmations belong to a file; calibrations follow from it.
    familiar = before.familiar and experiment.familiar
    return before == replace(experiment, provenance=now, familiar=familiar, calibration=before.calibration)


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
    for fold, (old, new) in enumerate(zip_longest(before, after, fillvalue=())):
        for epoch, (a, b) in enumerate(zip_longest(old, new)):
            if a != b or not epoch < min(len(old), len(new)):
                return fold, epoch, a, b
    return None


def today() -> str:
    """The time now, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path, most_bytes=_MOST_BYTES)
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
        tree = load_plain_yaml(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("provenance"), Mapping):
        raise UserError(
            f"{path} is not a frozen experiment: it has no provenance. A search writes one into its --export-dir."
        )
    if not is_intact:
        raise UserError(_CHANGED.format(path=path))
    return dict(tree)


def _check_texts(tree: Any, longest: int) -> None:
    for text in _texts(tree):
        if len(text) > longest:
            raise UserError(
                f"The text {text[:20]!r}... of {len(text):,} letters is not valid: expected at most {longest:,}."
            )


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _texts(value)


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
