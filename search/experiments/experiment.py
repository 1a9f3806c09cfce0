"""Frozen experiments: a complete resolved config and where its numbers come from, in one YAML file.

The file is loaded as a whole, never merged over defaults that may have changed since. Its last line is a
checksum: the SHA-256 of all bytes before that line. A file may hold several such experiments, see
`search.experiments.members`.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from datasets.candidates.training_domain import Familiar, Origin
from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import ScoreConfig
from datasets.task import Task
from models.bounds import Interval, NonNegativeInt
from search.config.run_config import OPTIONAL_KEYS, RunConfig, Seed, Threads, Tokens, run_config, task_of
from search.config.type_checks import Text, build, check_keys, convert
from search.experiments.members import ENSEMBLE_VERSIONS, MEMBERS, Ensemble, StudyId, ensemble_of, mapping_of, tree_of
from search.experiments.requirements import CALIBRATION, build_calibration, check_deviation, look_for_model
from search.experiments.sealed import read_sealed, write_sealed
from search.experiments.texts import LONGEST_SEQUENCE, check_shown, check_texts
from search.storage.rows.warm_start_checks import check_origin

if TYPE_CHECKING:
    from search.stats.calibration import Calibration  # numpy, which a mistake in a command does not wait for

SCHEMA_VERSION = 6
_SINCE_VERSION = {"model": 2, "n_target": 2, "study_id": 4}  # keys of the provenance that older files lack
# What training did before it had these settings, in files of version 2 and older.
_TRAINER_BEFORE_3 = {"loss": "mse", "huber_delta": 1.0, "standardize_targets": False}
_FAMILIAR = "familiar"
_IF_USED = ("model_source", "warm_start")  # of the provenance

_Hash = Annotated[str, Text(r"sha256:[0-9a-f]{64}|missing", "sha256: and 64 hexadecimal digits, or missing")]
_DataHash = Annotated[str, Text(r"[0-9a-f]{64}", "64 hexadecimal digits")]


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
    `model_source` is the hash of the source of a model outside the checkout, `warm_start` what the study began with.
    """

    schema_version: int
    study: str
    study_id: StudyId | None
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
    warm_start: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A config, its provenance, and what the rows were like that its weights were trained on.

    `familiar` lets `predict` do without the training data, `calibration` is what intervals are made of; both None in
    files of older versions, and of trials that ran before; the second also without the trial's validation predictions.
    `ensemble` has the members of an experiment with several; then all else but the calibration is that of the first,
    whose task, data and folds all of them share.
    """

    config: RunConfig
    provenance: Provenance
    familiar: Mapping[Origin, Familiar] | None = None
    calibration: "Calibration | None" = None
    ensemble: Ensemble | None = None

    def __post_init__(self) -> None:
        """Refuse a calibration that nothing can be told by, whoever wrote it."""
        check_deviation(self)

    @property
    def parts(self) -> "tuple[Experiment, ...]":
        """The members, or this experiment itself where it has none."""
        return (self,) if self.ensemble is None else tuple(one.experiment for one in self.ensemble.members)

    @property
    def embeddings(self) -> EmbeddingConfig | None:
        """The embeddings that it was trained with; members whose family takes none have none."""
        return next((part.config.embeddings for part in self.parts if part.config.embeddings is not None), None)

    @property
    def scores(self) -> ScoreConfig | None:
        """The score columns that it was trained with; `use` names all that any part sees."""
        known = self.config.scores
        used = {number for part in self.parts if part.config.scores for number in part.config.scores.used}
        return known and replace(known, use=",".join(known.names[one] for one in sorted(used)) or known.use)

    def task(self, table: Path | None = None) -> Task:
        """What is predicted, with all that any part sees beside the sequences; see `task_of`."""
        return task_of(replace(self.config, embeddings=self.embeddings), table)


def freeze(experiment: Experiment, path: Path) -> None:
    """Write the experiment beside `path` and move it into place; a UserError says that it is too large."""
    tree = _tree(experiment)
    if experiment.ensemble is not None:
        tree = {**_kept_calibration(experiment), **tree_of(experiment.ensemble, _tree)}
    write_sealed(tree, path)


def _kept_calibration(experiment: Experiment) -> dict[str, Any]:
    return {} if experiment.calibration is None else {CALIBRATION: asdict(experiment.calibration)}


def _tree(experiment: Experiment) -> dict[str, Any]:
    """An experiment without members as a tree, its provenance last."""
    config = asdict(experiment.config)
    config = {key: value for key, value in config.items() if key not in OPTIONAL_KEYS or value is not None}
    if (table := experiment.config.table) is not None:
        config["table"] = table.recorded
    if experiment.config.scores is not None:
        config["scores"] = experiment.config.scores.tree
    if experiment.familiar is not None:
        config[_FAMILIAR] = {origin: asdict(familiar) for origin, familiar in experiment.familiar.items()}
    config |= _kept_calibration(experiment)
    known = asdict(experiment.provenance).items()
    return {**config, "provenance": {key: value for key, value in known if value is not None or key not in _IF_USED}}


def load_experiment(path: Path, announce: Callable[[str], None] = lambda sentence: None) -> Experiment:
    """Read and check an experiment file; `announce` is told where its model, outside the checkout, was changed since.

    Raises:
        UserError: The file is missing, malformed, of a newer schema, was changed since it was written, names a class or
            setting that is not allowed, or a model outside the checkout that is not here.
    """
    tree = read_sealed(path)
    provenance = dict(tree.pop("provenance"))
    provenance.pop("checksum", None)
    if MEMBERS not in tree:
        return _experiment(path, tree, provenance, announce)
    if _check_version(path, provenance, ENSEMBLE_VERSIONS[-1]) not in ENSEMBLE_VERSIONS:
        raise UserError(f"{path} is not a valid experiment: files with members have version {ENSEMBLE_VERSIONS[0]} on.")
    try:
        calibration = build_calibration(tree)
        ensemble = ensemble_of(tree, provenance, lambda own, where: _member(path, own, where, announce))
        return replace(ensemble.members[0].experiment, ensemble=ensemble, calibration=calibration)
    except UserError as error:
        known = str(error)
        raise UserError(known if str(path) in known else f"{path} is not a valid experiment: {known}") from None


def _member(path: Path, tree: Mapping[str, Any], where: str, announce: Callable[[str], None]) -> Experiment:
    rest = {key: value for key, value in tree.items() if key != "provenance"}
    provenance = dict(mapping_of(tree.get("provenance"), f"{where}.provenance"))
    return _experiment(Path(f"{path}: {where}"), rest, provenance, announce)


def _check_version(path: Path, provenance: Mapping[str, Any], newest: int) -> int:
    version: int = convert(Annotated[int, Interval(ge=1)], provenance.get("schema_version"), f"{path}: schema_version")
    if version > newest:
        raise UserError(f"{path} has schema version {version}, this flipsearch knows {newest}: use a newer flipsearch.")
    return version


def _experiment(
    path: Path, tree: dict[str, Any], provenance: dict[str, Any], announce: Callable[[str], None]
) -> Experiment:
    """A checked experiment without members; `path` names it in sentences."""
    version = _check_version(path, provenance, SCHEMA_VERSION)
    for key, since in _SINCE_VERSION.items():
        if version < since:
            provenance.setdefault(key, None)
    if version < 3 and isinstance(tree.get("trainer"), Mapping):
        tree["trainer"] = {**_TRAINER_BEFORE_3, **tree["trainer"]}
    look_for_model(path, tree, provenance, announce)
    try:
        check_texts(tree, LONGEST_SEQUENCE)
        familiar = _build_familiar(tree.pop(_FAMILIAR)) if _FAMILIAR in tree else None
        known = build_calibration(tree)
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
    check_shown(tree, "provenance")
    known = build(Provenance, tree, "provenance")
    check_origin(known.warm_start, "provenance.warm_start")
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
        read_sealed(path)
        return True
    except UserError:
        return False


def is_same_export(path: Path, experiment: Experiment) -> bool:
    """Whether the file holds this experiment already, whenever and from whichever commit it was written."""
    try:
        before = load_experiment(path)
    except UserError:
        return False
    if before.ensemble is not None and experiment.ensemble is not None:
        return before.ensemble.is_same_as(experiment.ensemble, _is_same)
    return _is_same(before, experiment)


def _is_same(before: Experiment, experiment: Experiment) -> bool:
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
    return str(read_sealed(path)["provenance"].get("checksum"))


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
