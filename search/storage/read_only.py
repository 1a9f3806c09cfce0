"""A storage and a web application that nobody can change anything through."""

import json
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine

from datasets.common.errors import UserError
from search.storage.outages import Outages, explained
from search.storage.resilient import ResilientStorage
from search.storage.schema import require
from search.storage.url import parse_url, secrets_of, sqlite_path, without_secrets

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_READING = ("GET", "HEAD")
_REFUSAL = "This dashboard only shows: start it with --writable to change, rename or delete anything."
_FOREIGN = "This dashboard answers to the address that it was started on alone."
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_CONNECT_TIMEOUT_S = 10
_PATIENCE_S = 2.0
"""Somebody looks on."""
_MAX_BODY_BYTES = 16 * 2**20


def open_to_look(text: str, *, is_writable: bool) -> tuple[ResilientStorage, str]:
    """An existing storage, and its URL without secrets; nothing is created, migrated or locked.

    Unless it is to be writable, its connections refuse to write: SQLite's own mode, or Postgres's transactions.

    Raises:
        UserError: The URL is malformed; the storage does not exist, holds no studies, was made by another version of
            Optuna, or does not answer.
    """
    url = parse_url(text)
    name, path = without_secrets(url), sqlite_path(url)
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if path is not None:
        if not path.exists():
            raise UserError(f"There is no study database {path}: run a search first, or name another with --storage.")
        if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-shm").exists():
            raise UserError(
                f"{path.parent} cannot be written, and SQLite needs a file of its own (-shm) beside a database that it "
                "reads: look at it as a user who may write there."
            )
        url = url.set(database=str(path))
        if not is_writable:
            url = url.set(database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    else:
        arguments["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        if not is_writable:
            options = " ".join([*url.normalized_query.get("options", ()), "-c default_transaction_read_only=on"])
            arguments["connect_args"]["options"] = options
    with explained(name, secrets_of(url)):
        engine = create_engine(url, poolclass=NullPool, connect_args=arguments.get("connect_args", {}))
        with engine.connect() as connection:
            require(connection, name)
        storage = ResilientStorage(
            url.render_as_string(hide_password=False),
            outages=Outages(name, secrets=secrets_of(url), patience_s=_PATIENCE_S),
            engine_kwargs=arguments,
            skip_compatibility_check=True,
        )
    return storage, name


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
        if _routed(environ["PATH_INFO"]).startswith("/artifacts/"):
            start_response = _sandboxed(start_response)
        return self._app(environ, start_response)


def _routed(path: str) -> str:
    """The path by which the dashboard chooses what to answer: Bottle leaves out what is no UTF-8."""
    return "/" + path.encode("latin1").decode("utf8", "ignore").lstrip("/")


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
