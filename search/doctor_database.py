"""The doctor on the studies' database: does it answer, may it be written, and do its studies stand well."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna import Study
from optuna.storages._rdb.models import StudyModel
from optuna.trial import TrialState
from sqlalchemy import NullPool, create_engine, select, text
from sqlalchemy.engine import URL, Engine

from datasets.errors import UserError
from search.clocks import MAX_DIFFERENCE_S, Clocks, compare_clocks
from search.filesystems import network_kind
from search.finding import Finding
from search.progress import clock
from search.standing import running_trials
from search.storage import LEASE_S, Database, open_database, sqlite_path, without_secrets
from search.storage_errors import explained
from search.storage_schema import has_schema
from search.storage_url import secrets_of
from search.study import MANIFEST

_N_ROUND_TRIPS = 5
_SLOW_S = 0.05
_SUSPICIOUS_S = 2.0


def check_database(url: URL) -> Iterator[Finding]:
    """The database, its clock, then its studies; after a problem of the former the rest cannot be looked at."""
    try:
        path = sqlite_path(url)
        if path is not None and not path.exists():
            yield _check_missing(path)
            return
        # Before Optuna opens it: what is empty is left empty.
        engine = create_engine(url, poolclass=NullPool, connect_args={} if path else {"connect_timeout": 5})
        with explained(without_secrets(url), secrets_of(url)):
            with engine.connect() as connection:
                is_there = has_schema(connection, without_secrets(url))
            clocks = compare_clocks(engine)
            if is_there:
                _try_writing(engine)
        yield Finding(check="database", level="ok", text=f"{without_secrets(url)} answers" + _standing(is_there))
        if clocks is not None:
            yield check_clocks(clocks)
        if not is_there:
            return
        database = open_database(url.render_as_string(hide_password=False), create=False, patience_s=0)
    except UserError as error:
        yield Finding(check="database", level="problem", text=str(error).rstrip("."))
        return
    yield check_round_trips(database)
    with database.storage.engine.connect() as connection:
        # Optuna would read every attribute of every study with the names.
        names = connection.execute(select(StudyModel.study_name).order_by(StudyModel.study_name)).scalars().all()
    for name in names:
        yield from check_study(database, name)


def _standing(is_there: bool) -> str:
    return ", may be written, schema of this Optuna" if is_there else ": it is empty, the first search makes its tables"


def _check_missing(path: Path) -> Finding:
    kind = network_kind(path)
    if kind is not None:
        text = f"{path} would be on a network file system ({kind}), where SQLite loses data"
        remedy = "name a file on a local disk, or a Postgres database"
        return Finding(check="database", level="problem", text=text, remedy=remedy)
    return Finding(check="database", level="ok", text=f"there is no {path} yet: the first search makes it")


def _try_writing(engine: Engine) -> None:
    """Write what stands there already, and take it back."""
    with engine.connect() as connection:
        connection.execute(text("UPDATE version_info SET schema_version = schema_version"))
        connection.rollback()


def check_clocks(clocks: Clocks) -> Finding:
    """The clock of this machine beside the database's."""
    difference_s = clocks.difference_s
    if difference_s <= _SUSPICIOUS_S:
        return Finding(
            check="clocks", level="ok", text=f"{difference_s:.1f} s between this machine's and the database's"
        )
    return Finding(
        check="clocks",
        level="problem" if difference_s > MAX_DIFFERENCE_S else "warning",
        text=f"{clocks.sentence}, and leases last {LEASE_S} s",
        remedy="set the one that is wrong, for example with `timedatectl set-ntp true`",
    )


def check_round_trips(database: Database) -> Finding:
    """How long a question to the database takes."""
    taken_s = []
    with database.storage.engine.connect() as connection:
        for _ in range(_N_ROUND_TRIPS):
            began = time.perf_counter()
            connection.execute(text("SELECT 1"))
            taken_s.append(time.perf_counter() - began)
    median_s = statistics.median(taken_s)
    about = f"a round trip takes {1000 * median_s:.1f} ms"
    if median_s < _SLOW_S:
        return Finding(check="database", level="ok", text=about)
    remedy = "a validation costs several: run the workers nearer to it"
    return Finding(check="database", level="warning", text=about, remedy=remedy)


def check_study(database: Database, name: str) -> Iterator[Finding]:
    """A study's manifest, and trials that nobody works on any more."""
    check = f"study {name}"
    study = optuna.load_study(study_name=name, storage=database.storage)
    problem = _manifest_problem(study)
    if problem:
        remedy = "searches refuse it: choose another --study-name"
        yield Finding(check=check, level="problem", text=problem, remedy=remedy)
        return
    stale = [trial for trial in running_trials(database, study) if trial.silent_s > LEASE_S]
    if not stale:
        n_trials = len(study.get_trials(deepcopy=False))
        yield Finding(check=check, level="ok", text=f"{n_trials} trial(s), none without its worker")
    for trial in stale:
        who = trial.worker or "its worker"
        yield Finding(
            check=check,
            level="warning",
            text=f"trial {trial.trial} is running, but {who} was not heard of for {clock(trial.silent_s)}",
            remedy="the next worker of the study fails it and runs it again: repeat the search command",
        )


def _manifest_problem(study: Study) -> str | None:
    try:
        about = study.user_attrs.get(MANIFEST)
    except ValueError:
        return "its attributes are no JSON"
    if about is None:
        has_trials = bool(study.get_trials(deepcopy=False, states=tuple(TrialState)))
        return "it has trials but no manifest, so flipsearch did not make it" if has_trials else None
    keys = ("task", "model", "data_hash", "space_hash", "config_hash", "config")
    missing = [key for key in keys if key not in about] if isinstance(about, dict) else list(keys)
    return f"its manifest lacks {', '.join(missing)}" if missing else None
