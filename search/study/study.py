"""Open or create a study, refuse one that was made by another configuration, and count what is in it."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError, nearest
from datasets.tables.table import Table
from search.config.nested import difference, digest
from search.machine import own_models
from search.machine.environment import package_versions
from search.machine.standard_streams import printable
from search.options.values import is_study_name
from search.storage.attributes import FIRST, MANIFEST, N_TARGET, PROTOCOL, STUDY_ID, VERSIONS, WEIGHTS
from search.storage.database import Database
from search.storage.optuna_internals import system_attributes
from search.storage.outages import StorageLost, StorageRefused
from search.storage.rows.checks import study_problems
from search.storage.trial_cache import TrialCache
from search.study.ranking import best_trials

if TYPE_CHECKING:
    from search.study.config import StudyConfig
    from search.study.protocol import Protocol

MOST_SHOWN = 6  # differences in a sentence
DIRECTION: Final = "maximize"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Trials of a study by state. A trial is finished when it is complete or pruned; failures never count."""

    n_complete: int
    n_pruned: int
    n_failed: int
    n_running: int
    n_waiting: int

    @property
    def n_finished(self) -> int:
        """What the budget counts."""
        return self.n_complete + self.n_pruned


def manifest(config: "StudyConfig", *, data_hash: str, label: str, model: str) -> dict[str, Any]:
    """What a study is about. Reopening it with anything else would mix trials that cannot be compared."""
    about = {
        "task": config.task,
        "model": model,
        "data_hash": data_hash,
        "data": label,
        "space_hash": config.space.hash,
        "config_hash": config.hash,
        "sampler": config.sampler,
        "pruner": config.pruner,
        "validation": config.defaults["validation"],
        "epochs_per_fold": config.epochs_per_fold,
        "space": config.space.tree,
        "config": config.fixed,
    }
    if (table := config.defaults["table"]) is not None:
        about["table"] = Table(**table).settings
    run = config.run({})
    about |= {name: one.settings for name in ("scores", "embeddings") if (one := getattr(run, name)) is not None}
    if (source := own_models.source_hash(config.defaults["model"]["_target_"])) is not None:
        about["model_source"] = source
    return dict(json.loads(json.dumps(about)))  # as the database will give it back


def check_existing(database: Database, name: str, wanted: Mapping[str, Any]) -> None:
    """Refuse a study that exists under that name with another manifest, as `open_study` would; none is made.

    Raises:
        UserError: See `open_study`.
    """
    if name in database.storage.study_names():
        open_study(database, name, wanted)


def open_study(database: Database, name: str, wanted: Mapping[str, Any]) -> Study:
    """The study of that name; a new one is given its manifest, and one that has none its identity.

    To be called under the database's lock.

    Raises:
        UserError: The study exists with another manifest; the sentence shows what differs. Or the manifest is none that
            could be read again.
    """
    for _, problem in study_problems({MANIFEST: wanted}, {}):
        raise UserError(f"Study {name!r} cannot be kept in the database: {problem}.")
    storage = TrialCache(database.storage)
    study = optuna.create_study(storage=storage, study_name=name, direction=DIRECTION, load_if_exists=True)
    _check_direction(study)
    if MANIFEST in study.user_attrs:
        _check_manifest(name, study.user_attrs[MANIFEST], wanted)
    elif study.get_trials(deepcopy=False):
        raise UserError(
            f"Study {name!r} in {database.name} has trials but no manifest, so flipsearch did not make it: "
            "choose another --study-name."
        )
    else:
        study.set_user_attr(MANIFEST, dict(wanted))
    system_attributes(study)  # refused now, if they are damaged, and not at the end
    if study_id(study) is None:
        study.set_user_attr(STUDY_ID, uuid.uuid4().hex)
    return study


def study_id(study: Study) -> str | None:
    """The study's identity; None of a study that older versions made, until it is opened."""
    known: str | None = study.user_attrs.get(STUDY_ID)
    return known


def note_protocol(study: Study, protocol: "Protocol") -> None:
    """Note of a study what people read of its validation, and whether test sequences were looked at for it.

    What stands there stays; a study of an earlier version is given what it lacks.
    """
    about, known = asdict(protocol), study.user_attrs.get(PROTOCOL, {})
    del about["tree"]  # that of the manifest
    if not about.keys() <= known.keys():
        study.set_user_attr(PROTOCOL, {**about, **known})


def recorded_validation(database: Database, name: str) -> dict[str, Any] | None:
    """The protocol that `auto` chose when the study of that name was begun; None without such a study."""
    if name not in database.storage.study_names():
        return None
    attributes = find_study(database, name).user_attrs
    is_auto = attributes.get(PROTOCOL, {}).get("shown", "").startswith("auto: ")
    return attributes.get(MANIFEST, {}).get("validation") if is_auto else None


def changed_versions(study: Study) -> list[str]:
    """The packages whose versions are not those that the study began with: `torch: 2.12.0 -> 2.13.0`."""
    if VERSIONS not in study.user_attrs:
        study.set_user_attr(VERSIONS, package_versions())
    return difference(study.user_attrs[VERSIONS], package_versions())


def check_weights(study: Study, found: Iterable[tuple[str | None, str | None]]) -> None:
    """Note which pretrained weights the study uses, by name and hash. To be called under the database's lock.

    Raises:
        UserError: Those of that name were others when the study began.
    """
    known = dict(study.user_attrs.get(WEIGHTS, {}))
    for name, content in found:
        if name is not None and known.setdefault(name, content) != content:
            raise UserError(
                f"Study {study.study_name!r} was begun with other weights of {name} ({known[name]}) than those "
                f"found now ({content}): name the right folder with --weights-dir, or choose another --study-name."
            )
    if known != study.user_attrs.get(WEIGHTS, {}):
        study.set_user_attr(WEIGHTS, known)


def find_study(database: Database, name: str) -> Study:
    """An existing study.

    Raises:
        UserError: There is none of that name; the nearest names are offered.
    """
    names = database.storage.study_names()
    if name not in names:
        near = nearest(name, filter(str.isprintable, names))
        raise UserError(f"There is no study {name!r} in {database.name}.{near}")
    if not is_study_name(name):
        raise UserError(
            f"Study {printable(name)!r} in {database.name} was not made by flipsearch, whose studies have names of "
            "letters, digits and . _ + -, since files are named by them: name another."
        )
    study = optuna.load_study(study_name=name, storage=TrialCache(database.storage))
    _check_direction(study)
    return study


def readable_studies(
    database: Database, warn: Callable[[str], None], names: Iterable[str] | None = None
) -> Iterator[Study]:
    """The studies of a database, or those of `names`; one that cannot be read is left out, and `warn` is told why."""
    for name in database.storage.study_names() if names is None else names:
        try:
            study = find_study(database, name)
            # All rows that there are of it.
            _ = study.user_attrs, system_attributes(study), study.get_trials(False)
        except (StorageLost, StorageRefused):
            raise  # whatever the study
        except UserError as error:
            warn(f"Study {printable(name)!r} is left out: {error}")
        else:
            yield study


def needs_trials(database: Database, name: str, n_trials: int) -> bool:
    """Whether the study of that name, which may not exist yet, has fewer than `n_trials` finished trials."""
    if name not in database.storage.study_names():
        return True
    return count(find_study(database, name).get_trials(deepcopy=False)).n_finished < n_trials


def raise_target(study: Study, n_trials: int) -> None:
    """Remember the highest number of trials that was asked for."""
    if n_trials > study.user_attrs.get(N_TARGET, 0):
        study.set_user_attr(N_TARGET, n_trials)


def enqueue_first_trials(study: Study, trials: Sequence[Mapping[str, Any]]) -> None:
    """Queue the published configurations first, each once however often the study is opened."""
    for params in trials:
        study.enqueue_trial(dict(params), user_attrs={FIRST: True}, skip_if_exists=True)


def count(trials: Sequence[FrozenTrial]) -> Counts:
    """Trials by state."""
    return counts_of(Counter(trial.state for trial in trials))


def counts_of(states: Mapping[TrialState, int]) -> Counts:
    """How many trials are in each state; none in one that is not named."""
    return Counts(
        n_complete=states.get(TrialState.COMPLETE, 0),
        n_pruned=states.get(TrialState.PRUNED, 0),
        n_failed=states.get(TrialState.FAIL, 0),
        n_running=states.get(TrialState.RUNNING, 0),
        n_waiting=states.get(TrialState.WAITING, 0),
    )


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The first of `search.study.ranking.best_trials`."""
    return next(iter(best_trials(trials, 1)), None)


def shown_validation(attributes: Mapping[str, Any]) -> str | None:
    """What people read of a study's validation, "auto: kfold of 5"; of an older study its class, "kfold"."""
    if PROTOCOL in attributes:
        return str(attributes[PROTOCOL]["shown"])
    tree = attributes.get(MANIFEST, {}).get("validation")
    return str(tree["_target_"]).rpartition(".")[2].lower() if tree else None


def _check_direction(study: Study) -> None:
    """Refuse a study that searches for the smallest value, or for several at once."""
    directions = [direction.name.lower() for direction in study.directions]
    if directions != [DIRECTION]:
        raise UserError(
            f"Study {study.study_name!r} was not made by flipsearch, whose studies {DIRECTION} one value (its "
            f"directions: {', '.join(directions) or 'none'}): choose another --study-name."
        )


def stands_for(attributes: Mapping[str, Any]) -> str | None:
    """What a study's values were found on, "validated on random rows ..."; of an older study its protocol's words."""
    known, about = attributes.get(PROTOCOL, {}), attributes.get(MANIFEST, {})
    if "stands_for" in known:
        return str(known["stands_for"])
    if "validation" not in about:
        return None
    from search.study.protocol import build_validation  # the classes of a config take a while to import

    try:
        return build_validation(about["validation"]).stands_for
    except UserError:  # a protocol of another program, or of another version
        return None


def _check_manifest(name: str, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if digest(dict(before)) == digest(dict(wanted)):
        return
    lines = difference(before, wanted)
    # Hashes, and what features were measured for, only say that something differs; the values beside them say what.
    # Another split is other data, too.
    silent = (
        "space_hash",
        "config_hash",
        "features.",
        *(["data_hash"] if any(line.startswith("table.") for line in lines) else []),
    )
    telling = [line for line in lines if not line.startswith(silent)] or lines
    more = f"; and {len(telling) - MOST_SHOWN} more" if len(telling) > MOST_SHOWN else ""
    others = [line for line in telling if not line.startswith("validation.n_rounds")]  # which follows from the rows
    is_other_data = bool(others) and all(line.startswith("data_hash") for line in others)
    raise UserError(
        f"Study {name!r} was made with {'other data' if is_other_data else 'another configuration'} "
        f"({'; '.join(telling[:MOST_SHOWN])}{more}): choose another --study-name, or "
        f"{'give it the table that it had' if is_other_data else 'repeat its settings'}."
    )
