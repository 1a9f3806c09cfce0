"""The folder of a server: what stands where, who may enter, and that one server at a time has it."""

import contextlib
import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from datasets.common.errors import UserError
from search.machine.filesystems import network_kind
from search.machine.foreign_files import read_regular
from search.server.account import Account

_LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket on Linux."""


class ServerFolder:
    """A folder that belongs to one server.

    Attributes:
        path: Absolute.
        account: Who owns the data and the socket.
    """

    def __init__(self, path: Path, account: Account) -> None:
        self.path = Path(os.path.realpath(path))
        self.account = account
        self.data = self.path / "data"
        self.socket = self.path / "socket"
        self.url = self.path / "url"
        self.log = self.path / "log"
        self.rules = self.path / "pg_hba.conf"
        self.certificate = self.path / "certificate.pem"
        self.key = self.path / "key.pem"
        self._lock = self.path / "lock"

    def prepare(self) -> None:
        """Make the folder where there is none, and close it to others.

        Raises:
            UserError: It is on a network file system, is another's or something else's, or cannot be written.
        """
        kind = network_kind(self.path)
        if kind is not None:
            raise UserError(
                f"The folder {self.path} is on a network file system ({kind}), where a server's data are lost: name "
                "one on a local disk with --folder, such as /var/tmp/$USER/server."
            )
        if len(os.fsencode(self.socket / ".s.PGSQL.65535")) > _LONGEST_SOCKET:
            raise UserError(f"The path {self.path} is too long for a socket in it: name a shorter --folder.")
        if "," in str(self.path):
            raise UserError(f"The path {self.path} has a comma, which ends a socket's: name another --folder.")
        with self.written():
            self._make()
        if not self.account.is_own and subprocess.run(["test", "-x", self.socket], **self.account.of_child).returncode:
            raise UserError(
                f"The user {self.account.name}, whom Postgres runs as, cannot reach {self.path}: name a --folder whose "
                "parents everybody may enter, such as one below /var/lib."
            )

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Around what writes into the folder. Raises a UserError where that fails."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "name another with --folder"
            raise UserError(f"The folder {self.path} cannot be written ({reason}): {remedy}.") from None

    def require(self) -> None:
        """Refuse a folder without a server's data. Raises a UserError."""
        if self.version is None:
            raise UserError(f"There is no server in {self.path}: name its --folder.")

    @property
    def version(self) -> int | None:
        """The major version of Postgres that made the data; None where there are none.

        Raises:
            UserError: That cannot be read.
        """
        path = self.data / "PG_VERSION"
        try:
            return int(read_regular(path, most_bytes=64))
        except FileNotFoundError:
            if self.data.exists():
                raise UserError(
                    f"The folder {self.data} holds no data of Postgres (PG_VERSION is missing): move it away, and "
                    "--restore a dump into a new server."
                ) from None
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no version"
            raise UserError(f"{path} cannot be read ({reason}): name another --folder.") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether this process, as long as the block lasts, is the one that may start a server here."""
        with self.written():
            descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _make(self) -> None:
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise UserError(f"The folder {self.path} belongs to another user: name one of your own with --folder.")
        if not is_new and not self._lock.exists() and any(self.path.iterdir()):
            raise UserError(f"The folder {self.path} holds other things: name a new or empty one with --folder.")
        os.close(self._open_lock())  # what says that the folder is a server's
        # Root's Postgres, which runs as another user, passes through to its data; nothing can be listed.
        self.path.chmod(0o700 if self.account.is_own else 0o711)
        self.socket.mkdir(exist_ok=True)
        for folder in (self.socket, self.data):
            if folder.exists() and not stat.S_ISDIR(folder.lstat().st_mode):
                raise UserError(f"{folder} is a link or a file and no folder: move it away.")
        self.give(self.socket)

    def give(self, path: Path) -> None:
        """Let the account own a file or folder of ours, and nobody else enter it."""
        path.chmod(0o700 if path.is_dir() else 0o600)
        if not self.account.is_own:
            os.chown(path, self.account.user, self.account.group, follow_symlinks=False)
