"""The certificate by which workers on other machines know this server, made once by the program `openssl`."""

import ipaddress
import os
import shutil
import socket
import subprocess

from datasets.common.errors import UserError
from search.server.data import told
from search.server.folder import ServerFolder

_DAYS = 3650


def ensure_certificate(folder: ServerFolder, host: str) -> None:
    """Make a certificate that signs itself, and its key, where the folder has none; the key is readable for us alone.

    Raises:
        UserError: There is no `openssl`, or it fails.
    """
    if folder.certificate.exists() and folder.key.exists():
        return
    program = shutil.which("openssl")
    if program is None:
        raise UserError(
            "--host needs the program `openssl`, to make a certificate once: install it, or put your own into "
            f"{folder.certificate} and its key into {folder.key}."
        )
    key, certificate = (path.with_name(f".{path.name}.{os.getpid()}") for path in (folder.key, folder.certificate))
    names = ",".join(_name(word) for word in dict.fromkeys((host, socket.gethostname(), "localhost")))
    words = (
        *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"),
        *("-days", str(_DAYS), "-subj", "/CN=flipsearch", "-addext", f"subjectAltName={names}"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", umask=0o077
        )
        if done.returncode != 0:
            raise UserError(f"`openssl` could not make a certificate ({told(done.stderr)}): look at {folder.path}.")
        os.replace(key, folder.key)
        os.replace(certificate, folder.certificate)
    finally:
        for path in (key, certificate):
            path.unlink(missing_ok=True)


def _name(host: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"
