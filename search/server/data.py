"""The data of a new server: the workers' role, which owns one database, and a superuser whom nobody can be.

The superuser has no password and no line in pg_hba.conf, so that nobody can log in as it. What only a superuser may do
is done here, while no server runs, by Postgres's single-user mode.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from datasets.common.errors import UserError
from search.machine.limits import DISK_FULL
from search.machine.standard_streams import printable
from search.server.credentials import DATABASE, ROLE, verifier
from search.server.folder import ServerFolder
from search.server.programs import Programs

_SUPERUSER = "owner"
_ROLES = (
    f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
    f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
    f"REVOKE ALL ON DATABASE {DATABASE}, postgres, template1 FROM PUBLIC",
)


def make_data(programs: Programs, folder: ServerFolder, password: str) -> None:
    """Make the data of a server beside their place and move them there: a kill leaves all of them, or none.

    Raises:
        UserError: They cannot be made; a full disk, above all.
    """
    for left in folder.path.glob("data.*"):  # by a kill
        shutil.rmtree(left, ignore_errors=True)
    beside = folder.path / f"data.{os.getpid()}"
    try:
        with folder.written():
            beside.mkdir(mode=0o700)
            folder.give(beside)
        words = (
            *(str(programs.folder / "initdb"), "-D", str(beside), "-U", _SUPERUSER, "--auth=reject"),
            *("--data-checksums", "--encoding=UTF8", "--locale=C", "--no-instructions"),
        )
        _run(words, folder)
        _execute(programs, folder, beside.name, [*_ROLES, _password_of(password)])
        beside.rename(folder.data)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def set_password(programs: Programs, folder: ServerFolder, password: str) -> None:
    """Give the workers' role another password, while no server runs. Raises a UserError if that cannot be done."""
    _execute(programs, folder, folder.data.name, [_password_of(password)])


def environment() -> dict[str, str]:
    """That of Postgres's programs: English words, and none of the variables by which libpq and Postgres are told."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))} | {
        "LC_ALL": "C"
    }


def told(text: str) -> str:
    """What a program of Postgres's said last, in one line."""
    lines = [line.strip() for line in printable(text).splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    return re.sub(r"^.*?\b(FATAL|PANIC|ERROR|error):\s+", "", (wrong or lines or ["it gave no reason"])[0]).rstrip(".")


def _password_of(password: str) -> str:
    return f"ALTER ROLE {ROLE} PASSWORD '{verifier(password)}'"


def _execute(programs: Programs, folder: ServerFolder, data: str, statements: Sequence[str]) -> None:
    """One statement a line; the first that fails ends it."""
    words = (
        *(str(programs.folder / "postgres"), "--single", "-D", str(folder.path / data)),
        *("-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres"),
    )
    _run(words, folder, "".join(f"{statement}\n" for statement in statements))


def _run(words: Sequence[str], folder: ServerFolder, given: str = "") -> None:
    done = subprocess.run(
        words,
        input=given,
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
        umask=0o077,
        start_new_session=True,
        **folder.account.of_child,
    )
    if done.returncode == 0:
        return
    if re.search(DISK_FULL, done.stderr):
        raise UserError(f"The disk of {folder.path} is full: make room, or name a --folder on another disk.")
    raise UserError(f"The data in {folder.path} could not be made ({told(done.stderr)}): name another --folder.")
