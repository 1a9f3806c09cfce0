"""The making of a database's tables, ended at any statement."""

import os
import signal
import sys
from collections.abc import Callable

import optuna
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel
from sqlalchemy import Engine, NullPool, create_engine, event, text

from search.storage.database import open_database
from tests.helpers.postgres import PASSWORD, PostgresServer


def statements_of_optuna(url: str) -> list[str]:
    """What Optuna, and this program until its version 0.6, sends to an empty database, each committed by itself."""
    sent: list[tuple[str, object]] = []

    def note(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        RDBStorage(url).engine.dispose()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    version = f"INSERT INTO version_info VALUES (1, 12, '{optuna.__version__}')"
    writing = [statement for statement, _ in sent if statement.lstrip().startswith(("CREATE", "INSERT"))]
    return [version if statement.startswith("INSERT INTO version_info") else statement for statement in writing]


def send(url: str, statements: list[str]) -> None:
    """Send statements, each committed by itself."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def open_and_die(url: str, n_statements: int, user: int | None = None) -> bool:
    """Open a database in another process, which is killed before its statement of that number; False if it has fewer.

    The end of a transaction counts as a statement. `user` is another user's id, for root alone.
    """

    def work() -> None:
        n_left = n_statements

        def count(*_: object) -> None:
            nonlocal n_left
            if not n_left:
                os.kill(os.getpid(), signal.SIGKILL)
            n_left -= 1

        event.listen(Engine, "before_cursor_execute", count)
        event.listen(Engine, "commit", count)
        open_database(url, create=True)

    status = in_another_process(work, user)
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def in_another_process(work: Callable[[], object], user: int | None = None) -> int:
    """Call the function in a fork of this process; 0, 1 after an exception, or the signal that ended it, negative."""
    pid = os.fork()
    if pid == 0:
        try:
            if user is not None:
                os.setgid(user)
                os.setuid(user)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{error!r}\n".encode())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_complete(url: str) -> None:
    """The next call goes on: everything stands there, and a trial can be written and read."""
    database = open_database(url, create=True)
    engine = database.storage.engine
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), BaseModel.metadata) == []
        assert connection.execute(text("SELECT count(*) FROM version_info")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    study = optuna.create_study(study_name="next", storage=database.storage, direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0))
    assert [trial.value for trial in study.trials] == [1.0]
    engine.dispose()


def role_of(postgres: PostgresServer) -> str:
    """The URL of an empty database whose role owns it and may do nothing else."""
    name = postgres.create_database()
    with postgres.connect(name) as connection:
        connection.execute(f"CREATE ROLE plain_{name} LOGIN PASSWORD '{PASSWORD}'")  # type: ignore[call-overload]
        connection.execute(f"ALTER DATABASE {name} OWNER TO plain_{name}")  # type: ignore[call-overload]
    return f"postgresql+psycopg://plain_{name}:{PASSWORD}@127.0.0.1:{postgres.port}/{name}"
