"""The init command: the database's tables and, on Postgres, a role that may read them and nothing else."""

import argparse
import re
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datasets.common.errors import UserError
from search.request.inputs import url_of
from search.storage.database import Database, open_database
from search.storage.outages import explained
from search.storage.schema import require_columns

_MAY_WRITE = """
    SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND (
        has_table_privilege(%(role)s, pg_class.oid, 'DELETE, TRUNCATE, TRIGGER')
        OR has_any_column_privilege(%(role)s, pg_class.oid, 'INSERT, UPDATE')
    ) LIMIT 1
"""
"""A role's own `default_transaction_read_only` hinders nobody: whoever has the role may unset it."""


def run_init(arguments: argparse.Namespace) -> int:
    """Create what is missing; called again it changes nothing but the reader's password."""
    reader: str | None = arguments.reader
    password = _password(reader, arguments.reader_password_file)
    url = url_of(arguments.storage, arguments.runs_dir)
    database = open_database(url, create=True)
    with explained(database.name, database.secrets), database.storage.engine.connect() as connection:
        require_columns(connection, database.name)
    print(f"The tables stand in {database.name}.")
    if reader is not None:
        _make_reader(database, reader, password)
        print(f"Role {reader} may read them and change nothing.")
    return 0


def _password(reader: str | None, path: Path | None) -> str | None:
    if path is None:
        return None
    if reader is None:
        raise UserError("--reader-password-file needs the role's name: add --reader ROLE.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"The password file {path} cannot be read: {what}.") from None
    if not lines or not lines[0]:
        raise UserError(f"The password file {path} is empty: expected the password in its first line.")
    return lines[0]


def _make_reader(database: Database, reader: str, password: str | None) -> None:
    engine = database.storage.engine
    if engine.dialect.name != "postgresql":
        raise UserError(f"--reader makes a role in Postgres: {database.name} has no roles.")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", reader):
        raise UserError(f"--reader {reader!r} is not valid: expected lower-case letters, digits and _.")
    try:
        with database.lock, engine.begin() as connection:
            _grant(connection, reader, password)
    except (DBAPIError, psycopg.Error) as error:  # the statements go to the driver itself
        cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise UserError(f"The role {reader} could not be made in {database.name}: {cause}.") from None


def _grant(connection: Connection, reader: str, password: str | None) -> None:
    postgres: Any = connection.connection.driver_connection
    role = sql.Identifier(reader)
    facts = postgres.execute("SELECT current_user, current_schema(), current_database()").fetchone()
    owner, schema, name = (sql.Identifier(fact) for fact in facts)
    exists = postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (reader,)).fetchone() is not None
    statements = [] if exists else [sql.SQL("CREATE ROLE {}").format(role)]
    statements.append(sql.SQL("ALTER ROLE {} LOGIN").format(role))
    if password is not None:
        # As psql's \password does: the server, its log and its statistics see a hash, never the password.
        verifier = postgres.pgconn.encrypt_password(password.encode(), reader.encode(), b"scram-sha-256").decode()
        statements.append(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))
    statements += [
        sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, role),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, role),
        # A later version's tables too.
        sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {}").format(
            owner, schema, role
        ),
    ]
    if reader == facts[0]:
        raise UserError(f"--reader {reader} is the role that owns the tables: name another.")
    for statement in statements:
        postgres.execute(statement)
    if postgres.execute(_MAY_WRITE, {"role": reader}).fetchone() is not None:
        raise UserError(f"The role {reader} existed and may change the tables: name another for reading.")
