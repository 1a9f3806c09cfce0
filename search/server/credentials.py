"""The workers' role and its password, as one URL in a file that its owner alone may read."""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import URL

from datasets.common.errors import UserError
from search.machine.foreign_files import read_regular
from search.storage.url import parse_url

ROLE = DATABASE = "flipsearch"
_MOST_BYTES = 4096
_ROUNDS = 4096  # Postgres's own number; nobody guesses 256 random bits however few there are


def new_password() -> str:
    """A password of 256 random bits, of letters that need no escape in a URL."""
    return secrets.token_urlsafe(32)


def make_url(password: str, host: str, port: int, certificate: Path | None = None) -> URL:
    """What a worker is given as its storage; with a certificate it takes this server alone, and TLS alone."""
    query = {} if certificate is None else {"sslmode": "verify-ca", "sslrootcert": str(certificate)}
    return URL.create("postgresql+psycopg", ROLE, password, host, port, DATABASE, query)


def read_url(path: Path) -> URL | None:
    """The URL that a server before had; None where there is no file.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    remedy = "remove it, and `serve` makes a new one with a new password"
    try:
        url = parse_url(read_regular(path, most_bytes=_MOST_BYTES).decode("ascii").strip())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"The file {path} cannot be read ({error.strerror}): {remedy}.") from None
    except (UserError, UnicodeDecodeError):
        raise UserError(f"The file {path} does not hold the URL of a server: {remedy}.") from None
    if (url.username, url.database) != (ROLE, DATABASE) or not url.password or not url.port:
        raise UserError(f"The file {path} does not hold the URL of a server: {remedy}.")
    return url


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, beside its place, and move it there; an OSError passes through."""
    _write(path, text.encode(), 0o600)


def write_public(path: Path, content: bytes) -> None:
    """The same for a file that everybody may read."""
    _write(path, content, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write through no link and over no file that somebody else has put beside the place."""
    beside = path.with_name(f".{path.name[:40]}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def password_file(folder: Path, password: str) -> Iterator[Path]:
    """A file for $PGPASSFILE, while Postgres's own programs need it: what they are told otherwise, others may see."""
    path = folder / f"pgpass.{os.getpid()}"
    write_private(path, f"*:*:{DATABASE}:{ROLE}:{password}\n")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def verifier(password: str) -> str:
    """What Postgres keeps of a password, for SCRAM-SHA-256 (RFC 5803): so that it never sees the password itself."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client, server = (hmac.digest(salted, words, "sha256") for words in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ROUNDS}:{texts[0]}${texts[1]}:{texts[2]}"
