"""A storage and a web application that nobody can change anything through."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from datasets.errors import UserError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_READING = ("GET", "HEAD")
_REFUSAL = "This dashboard only shows: start it with --writable to change, rename or delete anything."
_FOREIGN = "This dashboard answers to the address that it was started on alone."
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_MAX_BODY_BYTES = 16 * 2**20


def open_for_reading(url: URL, name: str) -> RDBStorage:
    """The storage at `url`, over connections that refuse to write: SQLite's own mode, or Postgres's transactions.

    Args:
        url: Of an existing SQLite file (with an absolute path) or of a database server.
        name: The URL without secrets, for errors.

    Raises:
        UserError: It holds no studies, was made by another version of Optuna, or does not answer.
    """
    arguments: dict[str, object] = {"pool_pre_ping": True}
    if url.get_backend_name() == "sqlite":
        url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    elif url.get_backend_name() == "postgresql":
        options = " ".join([*url.normalized_query.get("options", ()), "-c default_transaction_read_only=on"])
        arguments["connect_args"] = {"options": options, "connect_timeout": 10}
    return open_existing(url, name, arguments)


def open_existing(url: URL, name: str, arguments: dict[str, object]) -> RDBStorage:
    """A storage whose tables are there already; nothing is created or migrated.

    Raises:
        UserError: As `open_for_reading`.
    """
    try:
        storage = RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs=arguments,
            skip_table_creation=True,
            skip_compatibility_check=True,
        )
        version, known = storage.get_current_version(), storage.get_head_version()
    except ImportError:
        raise UserError(f"The storage {name} needs a database driver that is not installed.") from None
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
        raise UserError(_explained(name, lines[0].rstrip(".") if lines else type(error).__name__)) from None
    if version != known:
        raise UserError(
            f"The storage {name} has schema {version}, made by another Optuna than this one ({known}): "
            "use the version that made it, or `optuna storage upgrade`."
        )
    return storage


def _explained(name: str, cause: str) -> str:
    if "no such table" in cause or ("relation" in cause and "does not exist" in cause):
        return f"The storage {name} holds no studies yet: run a search first, or create its tables with `init`."
    if "unable to open database file" in cause:
        return (
            f"The storage {name} cannot be read here: SQLite needs to write its -shm file beside a database in use, "
            "so serve it as a user who may write in that folder."
        )
    return f"The storage {name} does not answer: {cause}."


class Guard:
    """Between the server and the dashboard: what may be asked for, and what a browser may do with the answers.

    Args:
        app: The dashboard.
        is_writable: Whether methods other than GET and HEAD pass.
        hosts: The names in the Host header that are answered, without a port; None for all. A page of another site
            whose name is made to point here (DNS rebinding) is refused by it.
    """

    def __init__(self, app: "WSGIApplication", *, is_writable: bool, hosts: Iterable[str] | None) -> None:
        self._app = app
        self._is_writable = is_writable
        self._hosts = None if hosts is None else {*_LOOPBACK, *hosts}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        if self._hosts is not None and _without_port(environ.get("HTTP_HOST", "localhost")) not in self._hosts:
            return _refuse(environ, start_response, _FOREIGN)
        if not self._is_writable and environ["REQUEST_METHOD"] not in _READING:
            return _refuse(environ, start_response, _REFUSAL)
        if not environ["PATH_INFO"].startswith("/artifacts/"):
            return self._app(environ, start_response)
        return self._app(environ, _sandboxed(start_response))


def _without_port(host: str) -> str:
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdecimal() else host


def _refuse(environ: "WSGIEnvironment", start_response: "StartResponse", sentence: str) -> list[bytes]:
    # An answer to a request whose body was not read is lost with the connection.
    length = environ.get("CONTENT_LENGTH") or ""
    environ["wsgi.input"].read(min(int(length) if length.isdecimal() else 0, _MAX_BODY_BYTES))
    body = json.dumps({"reason": sentence}).encode()
    start_response("403 Forbidden", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _sandboxed(start_response: "StartResponse") -> "StartResponse":
    """A figure is a page with scripts: they are not to act as the dashboard's own."""

    def start(status: str, headers: list[tuple[str, str]], *rest: object) -> Callable[[bytes], object]:
        more = [("Content-Security-Policy", "sandbox allow-scripts"), ("X-Content-Type-Options", "nosniff")]
        return start_response(status, [*headers, *more], *rest)  # type: ignore[arg-type]

    return start
