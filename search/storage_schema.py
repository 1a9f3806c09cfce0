"""Which version of Optuna made a database. Only looked at here: an older or newer one is left as it is."""

from pathlib import Path

import optuna
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from datasets.errors import UserError

_TABLES = {"studies", "trials", "version_info"}


def has_schema(connection: Connection, name: str) -> bool:
    """Whether the database has Optuna's tables already; `name` is its URL without secrets.

    Raises:
        UserError: They are of another version of Optuna, or somebody else's.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        theirs = _TABLES & set(inspect(connection).get_table_names())
        # Without the revision that Optuna writes last: an interrupted creation, if the version stands there.
        if theirs and not _made_by(connection, theirs):
            raise UserError(
                f"The storage {name} has tables {', '.join(sorted(theirs))} that are not of Optuna's making: "
                "name another database."
            )
        return False
    scripts = ScriptDirectory(str(Path(optuna.__file__).parent / "storages" / "_rdb" / "alembic"))
    head = scripts.get_current_head()
    if revision == head:
        return True
    made_by = _made_by(connection, _TABLES) or "another version"
    about = f"The storage {name} was made by Optuna {made_by} (schema {revision}), not {optuna.__version__} ({head})"
    if revision in [script.revision for script in scripts.walk_revisions()]:
        raise UserError(
            f"{about}: let every search on it end, copy it, and run `optuna storage upgrade --storage URL` once."
        )
    raise UserError(f"{about}: run `pip install -U optuna` for one that knows it, or name another database.")


def _made_by(connection: Connection, tables: set[str]) -> str | None:
    """The version of Optuna that created the tables; None if that is not written there."""
    if "version_info" not in tables:
        return None
    row = connection.execute(text("SELECT library_version FROM version_info")).first()
    return None if row is None else str(row[0])
