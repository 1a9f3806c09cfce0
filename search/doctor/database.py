"""The doctor on the studies' database: does it answer, may it be written, and do its studies stand well."""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import URL, Engine

from datasets.common.errors import UserError
from search.doctor.finding import Diagnosis, ok, problem, warning
from search.machine.filesystems import network_kind
from search.machine.standard_streams import printable
from search.options.values import is_study_name
from search.storage.clocks import Clocks, compare_clocks
from search.storage.database import Database, open_database
from search.storage.lease_policy import USUAL_LEASE, LeasePolicy
from search.storage.outages import explained
from search.storage.rows.damage import REMOVED, Damage, find_damage, look_at, remove_damage
from search.storage.schema import REMEDY, Schema, look
from search.storage.url import secrets_of, sqlite_path, without_secrets
from search.study.snapshot import StudySnapshot
from search.study.study import find_study
from search.workers.display import clock

_N_ROUND_TRIPS = 5
_SLOW_S = 0.05
_SUSPICIOUS_S = 2.0
_MOST_SHOWN = 20
"""Damaged rows of a study, each a line."""
_CHOOSE_ANOTHER = "searches refuse it: choose another --study-name"


def check_database(url: URL, repair: Path | None = None) -> Iterator[Diagnosis]:
    """The database, its clock, then its studies; after a problem of the former the rest cannot be looked at.

    `repair` is the runs directory, if damaged rows are to be taken out.
    """
    try:
        path = sqlite_path(url)
        if path is not None and not path.exists():
            yield _check_missing(path)
            return
        # Before Optuna opens it: what is empty is left empty.
        engine = create_engine(url, poolclass=NullPool, connect_args={} if path else {"connect_timeout": 5})
        with explained(without_secrets(url), secrets_of(url)):
            with engine.connect() as connection:
                schema = look(connection, without_secrets(url))
            clocks = compare_clocks(engine)
            if schema.is_complete:
                _try_writing(engine)
        yield _standing(without_secrets(url), schema)
        if clocks is not None:
            yield check_clocks(clocks)
        if not schema.is_complete:
            return
        database = open_database(url.render_as_string(hide_password=False), create=False, patience_s=0)
    except UserError as error:
        yield problem("database", str(error).rstrip("."))
        return
    yield from _check_open(database, repair)


def _check_open(database: Database, repair: Path | None) -> Iterator[Diagnosis]:
    """How quick the database is, and its studies, each by itself."""
    try:
        yield check_round_trips(database)
        names = database.storage.study_names()
    except UserError as error:
        yield problem("database", str(error).rstrip("."))
        return
    for name in names:
        try:
            yield from check_study(database, name, repair)
        except UserError as error:
            yield problem(f"study {printable(name)}", str(error).rstrip("."))


def _standing(name: str, schema: Schema) -> Diagnosis:
    if schema.lacks:
        return warning("database", f"{name} answers, but its tables are not complete ({schema.lacks})", REMEDY)
    if schema.is_empty:
        return ok("database", f"{name} answers: it is empty, the first search makes its tables")
    return ok("database", f"{name} answers, may be written, schema of this Optuna")


def _check_missing(path: Path) -> Diagnosis:
    kind = network_kind(path)
    if kind is None:
        return ok("database", f"there is no {path} yet: the first search makes it")
    about = f"{path} would be on a network file system ({kind}), where SQLite loses data"
    return problem("database", about, "name a file on a local disk, or a Postgres database")


def _try_writing(engine: Engine) -> None:
    """Write what stands there already, and take it back."""
    with engine.connect() as connection:
        connection.execute(text("UPDATE version_info SET schema_version = schema_version"))
        connection.rollback()


def check_clocks(clocks: Clocks, lease: LeasePolicy = USUAL_LEASE) -> Diagnosis:
    """The clock of this machine beside the database's."""
    difference_s = clocks.difference_s
    if difference_s <= _SUSPICIOUS_S:
        return ok("clocks", f"{difference_s:.1f} s between this machine's and the database's")
    finding = problem if difference_s > lease.max_clock_difference_s else warning
    remedy = "set the one that is wrong, for example with `timedatectl set-ntp true`"
    return finding("clocks", f"{clocks.sentence}, and leases last {lease.lease_s} s", remedy)


def check_round_trips(database: Database) -> Diagnosis:
    """How long a question to the database takes."""

    def take_s() -> list[float]:
        taken_s = []
        with database.storage.engine.connect() as connection:
            for _ in range(_N_ROUND_TRIPS):
                began = time.perf_counter()
                connection.execute(text("SELECT 1"))
                taken_s.append(time.perf_counter() - began)
        return taken_s

    median_s = statistics.median(database.storage.outages.call(take_s))
    about = f"a round trip takes {1000 * median_s:.1f} ms"
    if median_s < _SLOW_S:
        return ok("database", about)
    return warning("database", about, "a validation costs several: run the workers nearer to it")


def check_study(database: Database, name: str, repair: Path | None = None) -> Iterator[Diagnosis]:
    """A study's rows, and trials that nobody works on any more; with `repair`, damaged rows are taken out."""
    check = f"study {printable(name)}"
    if not is_study_name(name):
        yield warning(check, "its name is none that flipsearch gives, so it is left alone")
        return

    def look_for_damage() -> tuple[bool, int, list[Damage]]:
        with database.storage.engine.connect() as connection:
            is_ours, n_trials = look_at(connection, name)
            return is_ours, n_trials, find_damage(connection, name) if is_ours else []

    is_ours, n_trials, damage = database.storage.outages.call(look_for_damage)
    if not is_ours and n_trials:
        yield problem(check, "it has trials but no manifest, so flipsearch did not make it", _CHOOSE_ANOTHER)
        return
    if damage and repair is not None:
        try:
            n_removed = len(database.storage.outages.call(partial(remove_damage, database, name, repair / name)))
        except OSError as error:
            about = f"{error.filename} cannot be written ({error.strerror}), so its damaged rows stay"
            yield problem(check, about, "name another --runs-dir")
            return
        if n_removed:
            copy = repair / name / REMOVED
            yield ok(check, f"{n_removed} damaged row(s) were taken out; {copy} holds a copy of them")
        damage = [left for left in damage if not left.is_removable]
    for each in damage[:_MOST_SHOWN]:
        yield problem(check, str(each), "`doctor --repair` takes the row out" if each.is_removable else _CHOOSE_ANOTHER)
    if len(damage) > _MOST_SHOWN:
        yield problem(check, f"{len(damage) - _MOST_SHOWN} more damaged rows", "`doctor --repair` takes them out")
    if damage:
        return
    now = StudySnapshot.of(find_study(database, name), database)
    stale = [trial for trial in now.running if trial.silent_s > database.lease.lease_s]
    if not stale:
        yield ok(check, f"{n_trials} trial(s), none without its worker")
    for trial in stale:
        yield warning(
            check,
            f"trial {trial.trial} is running, but the last heartbeat of {trial.worker or 'its worker'} was "
            f"{clock(trial.silent_s)} ago",
            "the next worker of the study fails it and runs it again: repeat the search command",
        )
