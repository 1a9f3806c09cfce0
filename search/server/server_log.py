"""What a server says, in a file that cannot grow for ever."""

import contextlib
import os
import threading
from pathlib import Path
from typing import IO

_MOST_BYTES = 4 << 20
_LONGEST_LINE = 4096
_KEPT = 40


class ServerLog:
    """Writes what comes from a pipe to a file, which its owner alone may read, until the pipe ends.

    A file of 4 MiB is kept as `log.1` beside a new one. A full disk loses lines, and nothing else.

    Args:
        path: The file; lines are added to it.
        pipe: What the server writes; read in a thread of its own, so that the server never waits.
    """

    def __init__(self, path: Path, pipe: IO[bytes]) -> None:
        self._path, self._pipe = path, pipe
        self._last: list[str] = []
        self._thread = threading.Thread(target=self._copy, name="server log", daemon=True)
        self._thread.start()

    def last(self) -> str:
        """The last lines, all of them once the server has ended."""
        self._thread.join(5)
        return "\n".join(self._last)

    def _copy(self) -> None:
        while line := self._pipe.readline(_LONGEST_LINE):
            self._last = [*self._last[1 - _KEPT :], line.decode(errors="replace").rstrip()]
            with contextlib.suppress(OSError):
                self._write(line)
        self._pipe.close()

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, line)
            is_full = os.fstat(descriptor).st_size >= _MOST_BYTES
        finally:
            os.close(descriptor)
        if is_full:
            os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
