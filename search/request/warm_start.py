"""The warm start that a search asks for: found anew for a study that is new, as recorded for one that exists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.study.config import StudyConfig

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.storage.database import Database
    from search.study.warm_start.source import Predecessor

KEY = "warm_start"
"""Of a manifest; only studies that begin so have it."""


def find_warm_start(
    names: Sequence[str],
    config: StudyConfig,
    split: "PreparedSplit",
    database: "Database | None",
    *,
    study: str,
    model: str,
    allow_seen: bool,
) -> tuple[dict[str, Any], list[str]]:
    """The record of a warm start for a new study called `study`, and a sentence for each configuration left out.

    Raises:
        UserError: See `search.study.warm_start`; or a study does not exist, or is this one.
    """
    from search.study.warm_start.choice import choose, record_of
    from search.study.warm_start.seen import count_seen

    if study in names:
        raise UserError(f"Study {study!r} cannot begin with its own configurations: leave --warm-start {study} out.")
    sources = [_source(name, database) for name in dict.fromkeys(names)]
    chosen, left_out = choose(sources, config.space, config.defaults, model=model)
    selections = [one for source in sources for one in source.selections]
    n_seen = count_seen(selections, split, config.task)
    return record_of(names, sources, n_seen, chosen, allow_seen=allow_seen, n_test=split.n_test), left_out


def check_warm_start_of(study: str, names: Sequence[str], database: "Database | None") -> None:
    """Refuse what no search could begin the study with, before anybody begins it; `database` is None if there is none.

    Raises:
        UserError: One is neither a study nor an experiment that can be read, or the study exists and began otherwise.
    """
    from search.storage.attributes import MANIFEST  # optuna comes with both
    from search.study.study import find_study

    before = {}
    if names and database is not None and study in database.storage.study_names():
        before = find_study(database, study).user_attrs.get(MANIFEST, {})
    if before:
        agreed(study, names, before)
        return
    for name in names:
        _source(name, database)


def agreed(study: str, names: Sequence[str], before: Mapping[str, Any]) -> dict[str, Any] | None:
    """The warm start that an existing study goes on with, which its manifest `before` records; None if it has none.

    Its configurations were chosen once: what the earlier studies have found since changes nothing. A command that
    names no warm start goes on with the recorded one.

    Raises:
        UserError: The command names another.
    """
    record: dict[str, Any] | None = before.get(KEY)
    known = [] if record is None else record["from"]
    if names and list(names) != known:
        begun = f"with --warm-start {' --warm-start '.join(known)}" if known else "without --warm-start"
        raise UserError(
            f"Study {study!r} was begun {begun}, and cannot begin again: leave --warm-start out to go on with it, or "
            "choose another --study-name."
        )
    return record


def _source(name: str, database: "Database | None") -> "Predecessor":
    """A study of the database, or the experiment in a file."""
    from search.study.study import find_study
    from search.study.warm_start.source import source_of_study

    is_study = database is not None and name in database.storage.study_names()
    if not is_study and (name.endswith((".yaml", ".yml")) or "/" in name):
        return _source_of_experiment(Path(name))
    if database is None:
        raise UserError(
            f"--warm-start {name}: there is no database yet, or it does not answer, and so no study to begin with: "
            "leave it out, or see `doctor`."
        )
    return source_of_study(find_study(database, name))


def _source_of_experiment(path: Path) -> "Predecessor":
    """The configuration in an experiment's file; of one with several members each."""
    from dataclasses import asdict

    from search.config.nested import flatten
    from search.experiments.experiment import load_experiment
    from search.study.warm_start.source import ChosenOn, Configuration, Predecessor, earlier_selections, known_values

    parts = load_experiment(path).parts
    selections: list[ChosenOn] = []
    configurations = []
    for part in parts:
        own = part.provenance
        task, data_hash = part.config.task, own.data_hash
        selections.append(ChosenOn(study=own.study, study_id=own.study_id, task=task, data_hash=data_hash))
        selections += earlier_selections(own.warm_start)
        known = known_values(dict(flatten(asdict(part.config))))
        configurations.append(Configuration(study=own.study, trial=own.trial, value=own.value, values=known))
    models = {part.provenance.model for part in parts}
    return Predecessor(
        name=str(path),
        model=models.pop() if len(models) == 1 else "several families",
        selections=tuple(selections),
        configurations=tuple(configurations),
    )
