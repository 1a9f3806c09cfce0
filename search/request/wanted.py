"""The study that a search asks for: its name and what it is about, and opening it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.config.nested import digest
from search.request import precision
from search.request.search_request import SearchRequest
from search.request.warm_start import KEY, agreed, find_warm_start
from search.study.config import StudyConfig, study_config
from search.study.names import find_name
from search.study.protocol import Protocol, find_protocol, with_protocol
from search.study.recorded import as_recorded, note_threads

if TYPE_CHECKING:
    from optuna import Study

    from datasets.splits.prepared import PreparedSplit
    from datasets.task import Task
    from search.storage.database import Database
    from search.workers.messages import Checked


@dataclass(frozen=True, kw_only=True)
class WantedStudy:
    """A study as a search asks for it, whether it exists or not.

    config: with its validation protocol and the precision of its features, which are the recorded ones where the study
    exists and `auto` is asked for. An exact model is solved once a fold, except in a study of an earlier version that
    began with more epochs.
    about: its manifest. kept: what of the study's own space and defaults differs from today's, a line each. left_out: a
    sentence for each configuration of a warm start that does not fit.
    """

    name: str
    config: StudyConfig
    protocol: Protocol
    about: dict[str, Any]
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def wanted_study(
    request: SearchRequest,
    config: StudyConfig,
    task: "Task",
    split: "PreparedSplit",
    database: "Database | None",
) -> WantedStudy:
    """What the request asks for; `database` is None where there is none yet.

    Raises:
        UserError: The split cannot be divided as the validation protocol wants it, or the warm start is refused.
    """
    from search.study.study import manifest, recorded_validation

    begun: list[tuple[dict[str, Any] | None, list[str]]] = []

    def warm_start(name: str, config: StudyConfig) -> tuple[dict[str, Any] | None, list[str]]:
        before = {} if database is None else _recorded(database, name)[0]
        if before:
            return agreed(name, request.warm_start, before), []
        if request.warm_start and not begun:  # of a new study asked for once: the files of other splits are read for it
            found = find_warm_start(
                request.warm_start,
                config,
                split,
                database,
                study=name,
                model=request.model,
                allow_seen=request.allow_seen,
            )
            begun.append(found)
        return begun[0] if begun else (None, [])

    def wanted(config: StudyConfig, recorded: dict[str, Any] | None) -> WantedStudy:
        protocol = find_protocol(config.defaults["validation"], task, split, recorded=recorded)
        full = with_protocol(config, protocol)
        about = manifest(full, data_hash=split.data_hash, label=split.label, model=request.model)
        name = request.study_name or find_name(database, about)
        if database is not None:
            full, about = precision.with_precision(full, about, precision.agreed(full, _recorded(database, name)[0]))
        record, left_out = warm_start(name, full)
        if record is not None:
            about[KEY] = record
        return WantedStudy(name=name, config=full, protocol=protocol, about=about, left_out=tuple(left_out))

    new = wanted(config, None)
    if database is None:
        return new
    recorded = recorded_validation(database, new.name)
    before, then = _recorded(database, new.name)
    if config.is_exact and before.get("epochs_per_fold") not in (None, config.epochs_per_fold):
        run = config.run({})
        config = study_config(
            request.words, table=run.table, scores=run.scores, embeddings=run.embeddings, solves_once=False
        )
    found = wanted(config, recorded)
    if not before or digest(before) == digest(found.about):
        return found
    try:
        kept, lines = as_recorded(config, before, now=request.overrides, then=then)
        as_begun = wanted(kept, recorded)
    except UserError:  # what it recorded is no config of today: `open_study` says what differs
        return found
    return replace(as_begun, kept=tuple(lines)) if digest(before) == digest(as_begun.about) else found


def _recorded(database: "Database", name: str) -> tuple[dict[str, Any], list[str]]:
    """The manifest of a study and the overrides that it began with; nothing without such a study."""
    from search.storage.attributes import MANIFEST, OVERRIDES
    from search.study.study import find_study

    if name not in database.storage.study_names():
        return {}, []
    attributes = find_study(database, name).user_attrs
    return attributes.get(MANIFEST, {}), attributes.get(OVERRIDES, [])


def open_wanted(
    request: SearchRequest,
    wanted: WantedStudy,
    database: "Database",
    checked: "Checked | None",
    announce: Callable[[str], None],
) -> "tuple[Study, StudyConfig]":
    """Open the study, or make it, with all that a search notes of it; and the config of its trials.

    Raises:
        UserError: It exists and is about something else, or used other weights.
    """
    from search.storage.attributes import OVERRIDES
    from search.study.control import run_if_drained
    from search.study.hours.meter import raise_hours
    from search.study.study import (
        MOST_SHOWN,
        changed_versions,
        check_weights,
        enqueue_first_trials,
        note_protocol,
        open_study,
        raise_target,
    )
    from search.study.warm_start.choice import enqueue, seen_sentences, words_of

    with database.lock:
        is_new = wanted.name not in database.storage.study_names()
        before = {} if is_new else _recorded(database, wanted.name)[0]
        measured = None if checked is None else checked.precision
        chosen = precision.agreed(wanted.config, before) if before else measured
        config, about = precision.with_precision(wanted.config, wanted.about, chosen)
        if before and (record := agreed(wanted.name, request.warm_start, before)) is not None:
            about[KEY] = record  # of another worker that began the study meanwhile
        study = open_study(database, wanted.name, about)
        note_protocol(study, wanted.protocol)
        if checked is not None:
            note_threads(study, checked.threads)
            check_weights(study, checked.backbones)
            first = wanted.config.first_trials
            of_use = [trial for trial, ranks in zip(first, checked.ranks, strict=True) if ranks]
            if len(of_use) < len(first) and not study.get_trials(deepcopy=False):
                announce(
                    f"{len(of_use)} of the {len(first)} first trials are queued: what is left out would predict one "
                    "number for all validation variants of a fold."
                )
            if KEY in about:
                enqueue(study, about[KEY])
            enqueue_first_trials(study, of_use)
        changed = changed_versions(study)
        if OVERRIDES not in study.user_attrs:
            study.set_user_attr(OVERRIDES, list(request.overrides))
        raise_target(study, request.n_trials)
        raise_hours(study, request.hours)
        run_if_drained(study)
    if is_new and chosen is not None:
        announce(chosen.sentence)
    if is_new and KEY in about:
        for sentence in wanted.left_out:
            announce(sentence)
        announce(f"Study {wanted.name} begins with {words_of(about[KEY])}.")
        for sentence in seen_sentences(about[KEY]):
            announce(sentence)
    if wanted.kept:
        more = f"; and {len(wanted.kept) - MOST_SHOWN} more" if len(wanted.kept) > MOST_SHOWN else ""
        announce(
            f"Study {wanted.name} goes on with the space and the defaults that it began with; today's are others "
            f"({'; '.join(wanted.kept[:MOST_SHOWN])}{more})."
        )
    if changed:
        announce(
            f"Study {wanted.name} began with other versions ({'; '.join(changed)}): "
            "its trials may differ in their last bits."
        )
    return study, config
