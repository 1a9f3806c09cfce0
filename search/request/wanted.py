"""The study that a search asks for: its name and what it is about, and opening it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from datasets.tables.table import Table
from search.config.nested import digest
from search.request.search_request import SearchRequest
from search.study.config import MACHINE_KEYS, StudyConfig, study_config
from search.study.names import find_name
from search.study.protocol import Protocol, find_protocol, with_protocol

if TYPE_CHECKING:
    from optuna import Study

    from datasets.splits.prepared import PreparedSplit
    from datasets.task import Task
    from search.storage.database import Database
    from search.workers.messages import Checked


_OF_A_MACHINE = tuple(f"trainer.{key}" for key in MACHINE_KEYS)


@dataclass(frozen=True, kw_only=True)
class WantedStudy:
    """A study as a search asks for it, whether it exists or not.

    config: with its validation protocol, which is the recorded one where the study exists and `auto` is asked for. An
    exact model is solved once a fold, except in a study of an earlier version that began with more epochs.
    about: its manifest.
    goes_on_as_begun: whether space or defaults are those that the study recorded, and not today's.
    """

    name: str
    config: StudyConfig
    protocol: Protocol
    about: dict[str, Any]
    goes_on_as_begun: bool = False


def wanted_study(
    request: SearchRequest,
    config: StudyConfig,
    task: "Task",
    split: "PreparedSplit",
    database: "Database | None",
) -> WantedStudy:
    """What the request asks for; `database` is None where there is none yet.

    Raises:
        UserError: The split cannot be divided as the validation protocol wants it.
    """
    from search.study.study import manifest, recorded_validation

    def wanted(config: StudyConfig, recorded: dict[str, Any] | None) -> WantedStudy:
        protocol = find_protocol(config.defaults["validation"], task, split, recorded=recorded)
        full = with_protocol(config, protocol)
        about = manifest(full, data_hash=split.data_hash, label=split.label, model=request.model)
        name = request.study_name or find_name(database, about)
        return WantedStudy(name=name, config=full, protocol=protocol, about=about)

    new = wanted(config, None)
    if database is None:
        return new
    table = config.defaults["table"]
    read_again = partial(study_config, request.words, table=table and Table(**table))
    recorded = recorded_validation(database, new.name)
    solves_once = not config.is_exact or _recorded_epochs(database, new.name) in (None, config.epochs_per_fold)
    if not solves_once:
        config = read_again(solves_once=False)
    now = wanted(config, recorded) if recorded is not None or not solves_once else new
    before = _begun_by_the_same_words(request, database, new.name)
    if before is None or digest(before) == digest(now.about):
        return now
    try:
        as_begun = wanted(read_again(solves_once=solves_once, recorded=before), recorded)
    except UserError:  # what it recorded means nothing any more: `open_study` says what differs
        return now
    return replace(as_begun, goes_on_as_begun=True) if digest(as_begun.about) == digest(before) else now


def _begun_by_the_same_words(request: SearchRequest, database: "Database", name: str) -> dict[str, Any] | None:
    """The manifest of the study of that name, where it was begun with the request's overrides; None elsewhere."""
    from search.storage.attributes import MANIFEST, OVERRIDES
    from search.study.study import find_study

    if name not in database.storage.study_names():
        return None
    attributes = find_study(database, name).user_attrs
    before, now = (
        sorted(word for word in words if word.lstrip("+~").partition("=")[0] not in _OF_A_MACHINE)
        for words in (attributes.get(OVERRIDES, ()), request.overrides)
    )
    manifest: dict[str, Any] | None = attributes.get(MANIFEST) if before == now else None
    return manifest


def _recorded_epochs(database: "Database", name: str) -> int | None:
    """The most epochs of a fold, as the study of that name began; None without such a study, or where it says none."""
    from search.storage.attributes import MANIFEST
    from search.study.study import find_study

    if name not in database.storage.study_names():
        return None
    epochs: int | None = find_study(database, name).user_attrs.get(MANIFEST, {}).get("epochs_per_fold")
    return epochs


def open_wanted(
    request: SearchRequest,
    wanted: WantedStudy,
    database: "Database",
    checked: "Checked | None",
    announce: Callable[[str], None],
) -> "Study":
    """Open the study, or make it, with all that a search notes of it.

    Raises:
        UserError: It exists and is about something else, or used other weights.
    """
    from search.storage.attributes import OVERRIDES
    from search.study.control import run_if_drained
    from search.study.study import (
        changed_versions,
        check_weights,
        enqueue_first_trials,
        note_protocol,
        open_study,
        raise_target,
    )

    with database.lock:
        study = open_study(database, wanted.name, wanted.about)
        note_protocol(study, wanted.protocol)
        if checked is not None:
            check_weights(study, checked.backbones)
        changed = changed_versions(study)
        if OVERRIDES not in study.user_attrs:
            study.set_user_attr(OVERRIDES, list(request.overrides))
        raise_target(study, request.n_trials)
        enqueue_first_trials(study, wanted.config.first_trials)
        run_if_drained(study)
    if wanted.goes_on_as_begun:
        announce(f"Study {wanted.name} goes on with the space and the defaults that it began with, not with today's.")
    if changed:
        announce(
            f"Study {wanted.name} began with other versions ({'; '.join(changed)}): "
            "its trials may differ in their last bits."
        )
    return study
