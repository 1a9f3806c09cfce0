"""A copy of a server's studies in one file, and a server from such a file."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import URL

from datasets.common.errors import UserError
from datasets.common.files import check_output, is_stream, place_of, replaced
from search.machine.foreign_files import open_regular
from search.machine.limits import DISK_FULL
from search.server.credentials import DATABASE, ROLE, password_file
from search.server.data import environment, told
from search.server.folder import ServerFolder
from search.server.postmaster import connect
from search.server.programs import Programs
from search.storage.database import open_database
from search.storage.url import hide

_MAGIC = b"PGDMP"
_N_TABLES = (
    "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', "
    "'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
)


def check_target(path: Path, option: str) -> None:
    """Refuse what is no file to be written, or replaced: /dev/null, for one. Raises a UserError."""
    if is_stream(path):
        raise UserError(f"{option} {path} is no file: name one.")
    check_output(path, option)


def check_dump(path: Path) -> None:
    """Refuse a file that is no dump. Raises a UserError."""
    try:
        with open_regular(path) as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise UserError(f"--restore {path} cannot be read ({error.strerror}): name a file that --dump wrote.") from None
    if start != _MAGIC:
        raise UserError(f"--restore {path} is no dump: name a file that --dump wrote.")


def dump(programs: Programs, folder: ServerFolder, port: int, password: str, path: Path) -> None:
    """Write all studies to a file, as they were at one moment, while the server runs.

    The file is readable for its owner alone, and is written beside its place and moved there.

    Raises:
        UserError: It cannot be written.
    """
    place = place_of(path)
    try:
        if place.exists():
            place.chmod(0o600)
        with replaced(place) as beside:
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            words = ("--format=custom", "--lock-wait-timeout=60s", "--no-owner", "--no-privileges", f"--file={beside}")
            _run(programs.folder / "pg_dump", words, folder, port, password, f"--dump {path} cannot be written")
    except OSError as error:
        raise UserError(f"--dump {path} cannot be written ({error.strerror}): name another file.") from None


def restore(programs: Programs, folder: ServerFolder, port: int, password: str, path: Path) -> int:
    """Fill an empty server with the studies of a file, all or none; returns how many.

    What the file holds is done by the workers' role, which may do nothing outside of its own database.

    Raises:
        UserError: The server has tables already, or the file cannot be restored or holds no studies of ours.
    """
    with connect(folder, port, password) as connection:
        row = connection.execute(_N_TABLES).fetchone()
    if row is None or row[0]:
        raise UserError(f"The server in {folder.path} has studies already: --restore into a new --folder.")
    words = (
        *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-comments"),
        *("--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces"),
        *(f"--dbname={DATABASE}", str(path.absolute())),
    )
    _run(programs.folder / "pg_restore", words, folder, port, password, f"--restore {path} failed, and left nothing")
    url = URL.create("postgresql+psycopg", ROLE, password, database=DATABASE)
    url = url.update_query_dict({"host": str(folder.socket), "port": str(port)})
    try:
        return len(open_database(url.render_as_string(hide_password=False), create=False).storage.study_names())
    except UserError as error:
        with connect(folder, port, password) as connection:
            connection.execute("DROP OWNED BY CURRENT_USER")
        raise UserError(f"--restore {path} is no dump of studies, and left nothing: {error}") from None


def _run(program: Path, words: Sequence[str], folder: ServerFolder, port: int, password: str, what: str) -> None:
    with password_file(folder.path, password) as passwords:
        done = subprocess.run(
            [program, "--no-password", f"--host={folder.socket}", f"--port={port}", f"--username={ROLE}", *words],
            env={**environment(), "PGPASSFILE": str(passwords), "PGDATABASE": DATABASE},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            umask=0o077,
        )
    if done.returncode != 0:
        remedy = "make room" if re.search(DISK_FULL, done.stderr) else "see the server's log"
        raise UserError(f"{what} ({hide(told(done.stderr), [password])}): {remedy}.")
