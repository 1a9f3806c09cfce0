"""A network between us and a server that loses what it is told to lose."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """Passes bytes on, both ways. Once armed, the next COMMIT reaches the server and its answer nobody."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_armed = False
        self.n_lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_next_answer(self) -> None:
        """Cut the connection between the server's next commit and its answer."""
        self._is_armed = True

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            is_cut = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, is_cut), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server, is_cut), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, is_cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._is_armed and b"COMMIT" in data:
                    self._is_armed = False
                    is_cut.set()
                server.sendall(data)
        _shut(server)

    def _to_client(self, client: socket.socket, server: socket.socket, is_cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if is_cut.is_set():  # the answer to the commit: it is done, and nobody will know
                    self.n_lost += 1
                    break
                client.sendall(data)
        _shut(client)
        _shut(server)


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy to a port of this machine."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def _shut(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()
