"""Optuna's tables: looked at, and made, or completed, in one transaction.

Earlier versions made them one by one, and a kill between two left a database that this program then refused. What such
a kill left is recognised by what is there: every table is Optuna's, some or the version are missing, and no study is
lost with them. Tables of an older or newer version of Optuna are left as they are.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

import optuna
from sqlalchemy import Connection, Engine, event, exists, inspect, select, text

from datasets.common.errors import UserError
from search.machine.standard_streams import printable
from search.storage.optuna_internals import MIGRATIONS, models
from search.storage.remedies import RESTORE

_METADATA: Any = models.BaseModel.metadata
_VERSION, _REVISION = "version_info", "alembic_version"
_KEY: Final = 0x666C6970
"""Of the lock that a transaction which makes tables holds on Postgres until it is over."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What stands in a database.

    Attributes:
        is_empty: There is no table of Optuna's.
        lacks: What a creation that was interrupted did not come to, `table trials missing, alembic_version empty`; ""
            where everything is there.
    """

    is_empty: bool = False
    lacks: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether searches can work on it as it is."""
        return not self.is_empty and not self.lacks


def look(connection: Connection, name: str) -> Schema:
    """What stands in the database; nothing is changed. `name` is its URL without secrets.

    Raises:
        UserError: The tables are of another version of Optuna, or somebody else's, or some are lost.
    """
    tables = set(inspect(connection).get_table_names())
    found, missing = sorted(tables & {*_METADATA.tables}), sorted({*_METADATA.tables} - tables)
    revisions = _current_revisions(connection) if _REVISION in tables else ()
    if revisions:
        _check_revision(connection, name, revisions, found)
        if missing:
            raise UserError(f"The storage {name} has lost {_tables(missing)}: {RESTORE}.")
        return Schema(lacks="" if _made_by(connection, found) else f"{_VERSION} empty")
    if not found:
        _check_types(connection, name)
        return Schema(is_empty=True)
    lacks = _lacking(connection, name, found)
    ours = [_METADATA.tables[table] for table in found if table != _VERSION]
    if missing and any(connection.execute(select(exists().select_from(table))).scalar_one() for table in ours):
        raise UserError(f"The storage {name} has studies, and has lost {_tables([*missing, _REVISION])}: {RESTORE}.")
    return Schema(lacks=lacks)


def require(connection: Connection, name: str) -> None:
    """Refuse a database that holds no studies, or whose tables are not complete; nothing is changed.

    Raises:
        UserError: It is so, or the tables are of another version of Optuna, or somebody else's.
    """
    schema = look(connection, name)
    if schema.is_empty:
        raise UserError(f"The storage {name} has no studies yet: run a search first, or name another.")
    if schema.lacks:
        raise UserError(f"The tables of the storage {name} are not complete ({schema.lacks}): {REMEDY}.")


def require_columns(connection: Connection, name: str) -> None:
    """Refuse tables that have lost a column. Every other command meets it where it reads the column.

    Raises:
        UserError: One is missing, or more.
    """
    there: Any = inspect(connection)
    kept = {table: {column["name"] for column in there.get_columns(table)} for table in _METADATA.tables}
    lost = [
        f"{table.name}.{column.name}"
        for table in _METADATA.sorted_tables
        for column in table.columns
        if column.name not in kept[table.name]
    ]
    if lost:
        raise UserError(f"The storage {name} has lost column{'s' * (len(lost) > 1)} {', '.join(lost)}: {RESTORE}.")


REMEDY = "`python run_study.py init --storage URL` adds what is missing and changes nothing else"
"""What a person does about a schema that lacks something."""


def complete(engine: Engine, name: str) -> None:
    """Make the tables, or what is missing of them, in one transaction: a kill leaves all of it or nothing.

    Raises:
        UserError: The tables that are there are of another version of Optuna, or somebody else's, or some are lost.
    """
    with engine.connect() as connection:
        if look(connection, name).is_complete:  # a role that may only read gets as far as this
            return
    if engine.dialect.name == "sqlite":
        _begin_transactions(engine)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # The server may still be ending the transaction of somebody who was killed.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEY})
        if look(connection, name).is_complete:
            return
        _METADATA.create_all(connection)
        for table in _METADATA.tables.values():  # of the tables that were there; the others have theirs
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        if _made_by(connection, [_VERSION]) is None:
            version = {"version_info_id": 1, "schema_version": models.SCHEMA_VERSION}
            row = {**version, "library_version": optuna.__version__}
            connection.execute(_METADATA.tables[_VERSION].insert(), row)
        from alembic.migration import MigrationContext  # heavy, and only needed once in a database's life
        from alembic.script import ScriptDirectory

        context = MigrationContext.configure(connection)
        if not context.get_current_heads():
            context.stamp(ScriptDirectory(str(MIGRATIONS)), "head")


def _begin_transactions(engine: Engine) -> None:
    """Python's sqlite3 begins none for CREATE TABLE, unless it is told to keep out of it."""

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _lacking(connection: Connection, name: str, found: list[str]) -> str:
    """What is missing beside the tables that are there, the revision at least.

    Raises:
        UserError: One of them is not as Optuna makes it.
    """
    from alembic.autogenerate import compare_metadata  # heavy, and rarely needed
    from alembic.migration import MigrationContext

    def is_ours(word: str | None, kind: str, parents: object) -> bool:
        return kind != "table" or word in _METADATA.tables

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": is_ours})
    # Changes of one column come as a list of their own. An index more than Optuna's harms nobody.
    flat = [
        part for item in compare_metadata(context, _METADATA) for part in (item if isinstance(item, list) else [item])
    ]
    kinds = {difference[0] for difference in flat}
    _check_types(connection, name)
    if not kinds <= {"add_table", "add_index", "remove_index"}:
        raise UserError(
            f"The storage {name} has tables {', '.join(found)} that are not of Optuna's making: name another database."
        )
    tables = [difference[1].name for difference in flat if difference[0] == "add_table"]
    words = [f"{_tables(tables)} missing"] if tables else []
    words += [f"index {difference[1].name} missing" for difference in flat if difference[0] == "add_index"]
    if _VERSION in found and _made_by(connection, found) is None:
        words.append(f"{_VERSION} empty")
    return ", ".join([*words, f"{_REVISION} empty"])


def _check_types(connection: Connection, name: str) -> None:
    """Postgres keeps types of their own for states and directions: somebody else's of such a name are not ours.

    Raises:
        UserError: There is one with other values.
    """
    if connection.dialect.name != "postgresql":
        return
    columns = [column for table in _METADATA.tables.values() for column in table.columns]
    ours = {column.type.name: list(column.type.enums) for column in columns if hasattr(column.type, "enums")}
    there: Any = inspect(connection)
    for kind in there.get_enums():
        if ours.get(kind["name"], kind["labels"]) != kind["labels"]:
            raise UserError(
                f"The storage {name} has a type {kind['name']} that is not of Optuna's making: name another database."
            )


def _check_revision(connection: Connection, name: str, revisions: tuple[str, ...], found: list[str]) -> None:
    """Refuse tables of another version of Optuna, and those of other programs that keep a revision as it does."""
    revision, (head, others) = ", ".join(revisions), _known_revisions()
    if revisions == (head,):
        return
    if not found or len(revisions) > 1:
        raise UserError(
            f"The storage {name} is another program's: its table {_REVISION} says {revision}, and Optuna's "
            f"says {head}. Name another database."
        )
    made_by = _made_by(connection, found) or "another version"
    about = f"The storage {name} was made by Optuna {made_by} (schema {revision}), not {optuna.__version__} ({head})"
    if revision in others:
        raise UserError(
            f"{about}: let every search on it end, copy it, and run `optuna storage upgrade --storage URL` once."
        )
    raise UserError(f"{about}: run `pip install -U optuna` for one that knows it, or name another database.")


def _current_revisions(connection: Connection) -> tuple[str, ...]:
    """What Alembic's table says; read by hand, since importing Alembic takes as long as all else that is needed."""
    return tuple(printable(str(row[0])) for row in connection.execute(text(f"SELECT version_num FROM {_REVISION}")))


def _known_revisions() -> tuple[str, set[str]]:
    """The revision of this Optuna's tables, and those before, as its scripts name them."""
    before, assignment = {}, re.compile(r'^(revision|down_revision) = "?([\w.]+)"?$', re.MULTILINE)
    for path in (MIGRATIONS / "versions").glob("*.py"):
        names = dict(assignment.findall(path.read_text(encoding="utf-8")))
        before[names["revision"]] = names["down_revision"]
    (head,) = before.keys() - before.values()
    return head, before.keys() - {head}


def _made_by(connection: Connection, found: list[str]) -> str | None:
    """The version of Optuna that created the tables; None if that is not written there."""
    if _VERSION not in found:
        return None
    row = connection.execute(text("SELECT library_version FROM version_info")).first()
    return None if row is None else printable(str(row[0]))


def _tables(names: list[str]) -> str:
    return f"table{'s' * (len(names) > 1)} {', '.join(names)}"
