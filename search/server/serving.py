"""A server from its folder to the URL that workers are given, and its dump and restore: the module to read first."""

import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from datasets.common.errors import UserError
from search.server import dumps
from search.server.certificate import ensure_certificate
from search.server.credentials import make_url, new_password, read_url, write_private, write_public
from search.server.data import make_data, set_password
from search.server.door import Door
from search.server.folder import ServerFolder
from search.server.listening import free_port, is_loopback, listen
from search.server.postmaster import MOST_CONNECTIONS, Postmaster, end_leftover, running
from search.server.programs import Programs, find_programs

_EVERYWHERE = ("0.0.0.0", "::")
_OPEN_FILES = 4096
"""Two for each connection of another machine."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that takes connections. `url` has the password in it; `files` hold it, each readable for us alone."""

    url: URL
    files: tuple[Path, ...]
    postmaster: Postmaster


@contextlib.contextmanager
def serving(
    folder: ServerFolder, *, host: str, port: int | None, url_file: Path | None, announce: Callable[[str], None]
) -> Iterator[Serving]:
    """Serve the data of a folder, which are made where there are none, inside this block.

    Args:
        folder: The server's.
        host: An address of this machine. One that others can reach has TLS before it.
        port: 0 takes a free one, None that of the last time.
        url_file: Where else the URL is written, with the certificate beside it.
        announce: Told of a server that a killed `serve` left behind.

    Raises:
        UserError: It cannot be served; the sentence says why.
    """
    if url_file is not None:
        dumps.check_target(url_file, "--url-file")
    programs = find_programs(folder.version)
    folder.prepare()
    with folder.locked() as is_ours, contextlib.ExitStack() as stack:
        if not is_ours:
            raise UserError(f"A server runs in {folder.path} already: use that one, or name another --folder.")
        end_leftover(folder.data, announce)
        before = read_url(folder.url)
        if port is None:
            port = before.port if before else None
        port = port or free_port(host)
        listen(host, port).close()  # before anything that takes time
        with folder.written():
            programs = programs.usable_by(folder.account, folder.path)
        is_local = is_loopback(host)
        if not is_local:
            ensure_certificate(folder, host)
        password = _ensure_data(programs, folder, before)
        url = make_url(
            password,
            socket.gethostname() if host in _EVERYWHERE else host,
            port,
            None if is_local else folder.certificate,
        )
        # Before the server runs: whoever is killed now finds the password again.
        with folder.written():
            write_private(folder.url, _text(url))
        server = stack.enter_context(running(programs, folder, port=port, listen=host if is_local else ""))
        server.wait_until_ready(port, password)
        if not is_local:
            stack.enter_context(_door(folder, host, port))
        files = [folder.url]
        if url_file is not None:
            _publish(folder, url, url_file)
            files.append(url_file)
        yield Serving(url=url, files=tuple(files), postmaster=server)


def dump(folder: ServerFolder, path: Path, announce: Callable[[str], None]) -> None:
    """Write all studies of a server, which may be running, to a file. Raises a UserError if that cannot be done."""
    dumps.check_target(path, "--dump")
    folder.require()
    programs = find_programs(folder.version)
    with _reachable(programs, folder, announce) as (port, password):
        dumps.dump(programs, folder, port, password, path)


def restore(folder: ServerFolder, path: Path, announce: Callable[[str], None]) -> int:
    """Fill an empty server, a new one above all, from a file; returns how many studies it has then.

    Raises:
        UserError: The file is no dump, or the server is not empty.
    """
    dumps.check_dump(path)
    programs = find_programs(folder.version)
    with _reachable(programs, folder, announce) as (port, password):
        return dumps.restore(programs, folder, port, password, path)


@contextlib.contextmanager
def _reachable(programs: Programs, folder: ServerFolder, announce: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """Port and password of a server on the folder's socket: the one that runs, or one for this block alone."""
    folder.prepare()
    with folder.locked() as is_ours, contextlib.ExitStack() as stack:
        if is_ours:
            end_leftover(folder.data, announce)
        before = read_url(folder.url)
        if is_ours:
            port = (before and before.port) or free_port("127.0.0.1")
            with folder.written():
                usable = programs.usable_by(folder.account, folder.path)
            password = _ensure_data(usable, folder, before)
            with folder.written():
                write_private(folder.url, _text((before or make_url("", "127.0.0.1", port)).set(password=password)))
            server = stack.enter_context(running(usable, folder, port=port))
            server.wait_until_ready(port, password)
        elif before is None:
            raise UserError(f"The server in {folder.path} is just starting: repeat the command.")
        else:
            assert before.port is not None
            assert before.password is not None
            port, password = before.port, str(before.password)
        yield port, password


def _ensure_data(programs: Programs, folder: ServerFolder, before: URL | None) -> str:
    """Make the data, or set a new password where the file with the old one is gone; returns the password."""
    if folder.version is not None and before is not None:
        return str(before.password)
    password = new_password()
    if folder.version is not None:
        set_password(programs, folder, password)
        return password
    folder.url.unlink(missing_ok=True)
    make_data(programs, folder, password)
    return password


def _door(folder: ServerFolder, host: str, port: int) -> Door:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if 0 <= soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    behind = folder.socket / f".s.PGSQL.{port}"
    try:
        return Door(host, port, behind, folder.certificate, folder.key, most=MOST_CONNECTIONS)
    except (ssl.SSLError, OSError) as error:
        raise UserError(
            f"The certificate {folder.certificate} and its key are not valid ({error.strerror}): remove both, and "
            "`serve` makes others."
        ) from None


def _publish(folder: ServerFolder, url: URL, path: Path) -> None:
    """Write the URL for machines that see `path` and not the folder."""
    try:
        if "sslrootcert" in url.query:
            certificate = Path(os.path.abspath(path)).with_name(f"{path.name}.pem")
            write_public(certificate, folder.certificate.read_bytes())
            url = url.update_query_dict({"sslrootcert": str(certificate)})
        write_private(path, _text(url))
    except OSError as error:
        raise UserError(f"--url-file {path} cannot be written ({error.strerror}): name another file.") from None


def _text(url: URL) -> str:
    return f"{url.render_as_string(hide_password=False)}\n"
