"""The dashboard command: optuna-dashboard for the studies' storage, by default without a way to change it."""

import argparse
import contextlib
import signal
import socket
import socketserver
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
from bottle import HTTPError, HTTPResponse  # type: ignore[import-untyped]
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import BaseStorage
from optuna_dashboard import wsgi  # type: ignore[import-untyped]

from datasets.common.errors import UserError
from search.request.inputs import url_of
from search.server.listening import is_loopback
from search.storage.read_only import Guard, open_to_look
from search.storage.resilient import ResilientStorage
from search.study.artifacts import ARTIFACTS
from search.workers.signals import sigterm_raised


def run_dashboard(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = url_of(arguments.storage, arguments.runs_dir)
    storage, name = open_to_look(url, is_writable=arguments.writable)
    app = wsgi(_answering(storage), artifact_store=_Store(arguments.runs_dir / ARTIFACTS))
    is_local = is_loopback(arguments.host)
    ended = contextlib.suppress(KeyboardInterrupt)
    with _server(arguments.host, arguments.port) as server, ended, sigterm_raised(KeyboardInterrupt):
        hosts = [arguments.host, f"[{arguments.host}]"] if is_local else None
        server.set_app(Guard(app, is_writable=arguments.writable, hosts=hosts))
        if not is_local:
            print(
                f"warning: --host {arguments.host} opens the dashboard to other machines, and it has no password: "
                f"whoever reaches it can {'read and delete' if arguments.writable else 'read'} every study.",
                file=sys.stderr,
            )
        what = "anything can be changed and deleted" if arguments.writable else "read-only"
        print(f"Dashboard of {name}: {server.address} ({what}; Ctrl-C ends it)", flush=True)
        server.serve_forever()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C finds nothing left to end
    return 0


def _answering(storage: ResilientStorage) -> ResilientStorage:
    """The storage; where it refuses, the browser is told why, instead of an error of the server with a traceback."""

    def answered(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: object, **kwargs: object) -> object:
            try:
                return method(*args, **kwargs)
            except UserError as error:
                raise HTTPError(503, str(error)) from None

        return call

    for name in dir(BaseStorage):
        if not name.startswith("_") and callable(method := getattr(storage, name)):
            setattr(storage, name, answered(method))
    return storage


class _Store(FileSystemArtifactStore):
    """The artifacts; one that was removed is answered with a sentence instead of an error of the server."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The file of an artifact."""
        try:
            return super().open_reader(artifact_id)
        except (ArtifactNotFound, OSError):
            raise HTTPResponse(
                "This file is not here: the checkpoints of all but the best trials are removed (--keep-top), and files "
                "of another machine's trials stand in that machine's runs directory.\n",
                410,
                {"Content-Type": "text/plain"},
            ) from None


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without the look-up of our own name, which hangs where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes its connection is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def _server(host: str, port: int) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        _Server.address_family = family
        return _Server((str(address[0]), port), _Handler)
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host} is no address of this machine: expected one such as 127.0.0.1.") from None
    except OSError as error:
        raise UserError(
            f"The dashboard cannot listen on {host}:{port} ({error.strerror}): choose another --port, "
            "or end what uses it."
        ) from None
