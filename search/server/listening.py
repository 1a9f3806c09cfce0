"""Addresses and ports to listen on."""

import contextlib
import errno
import ipaddress
import random
import socket

from datasets.common.errors import UserError

_OWN_PORTS = range(20_000, 32_000)
"""None of those that the system gives to connections: one of them could take it while the server is down."""


def is_loopback(host: str) -> bool:
    """Whether this machine alone can reach the address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: It is no address of this machine, or the port is in use or the system's own.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host} is no address of this machine: expected one such as 127.0.0.1.") from None
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use: end what uses it, or name another --port"
        elif error.errno == errno.EACCES:
            why = "ports below 1024 are the system's: name another --port"
        else:
            why = f"{error.strerror}: name an address of this machine with --host"
        where = f"{host}:{port}" if port else host
        raise UserError(f"The server cannot listen on {where}: {why}.") from None
    return listener


def free_port(host: str) -> int:
    """A port that nobody uses now. Raises a UserError if the address is none of this machine's."""
    listen(host, 0).close()
    for port in random.SystemRandom().sample(_OWN_PORTS, 20):
        with contextlib.suppress(UserError):
            listen(host, port).close()
            return port
    raise UserError(f"No port of {host} is free: name one with --port.")
