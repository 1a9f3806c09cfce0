"""What runs in a Ray actor on a node: it looks at the node, and has a worker as a process of its own.

The class goes to the node by value, since nobody knows yet whether the checkout is there. So this module imports the
standard library alone and its methods take and return nothing but built-in types. What the worker has to say passes
through as bytes.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

_NOT_THE_WORKERS = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "FLIPSEARCH_STORAGE")
"""Of the actor's environment: Ray sets the first two, and nobody is to inherit a password."""
_END_S = 8.0
_MOST_SHOWN = 20_000  # bytes of a worker's output
CHECKOUT = "checkout"
"""The program's folder in what is shipped, which is where the actor runs."""
_SCRATCH = "flipsearch-ray-"


class Supervisor:
    """One worker and its process, which ends when this one does: it watches the pipe between them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._scratch: HeldFolder | None = None

    def look(
        self, paths: Sequence[str], mark: str | None, root: str | None, packages: Sequence[str], token: str
    ) -> dict[str, Any]:
        """What the driver has to know of this node before a worker starts here.

        Args:
            paths: What has to exist.
            mark: A file that the driver has just written; None where none has to be seen.
            root: The checkout; None where it was shipped, together with this actor.
            packages: Its packages.
            token: Names a folder of this search's own, which is made where the program was shipped.
        """
        import ray

        if root is None and self._scratch is None:
            self._scratch = HeldFolder(_SCRATCH, token)
        scratch = None if self._scratch is None else str(self._scratch.folder)
        root = root or os.path.join(os.getcwd(), CHECKOUT)
        missing = [path for path in paths if not os.path.exists(path)]
        return {
            "host": socket.gethostname(),
            "machine": this_machine(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "missing": missing,
            "has_mark": mark is None or os.path.exists(mark),
            "root": root,
            "scratch": scratch,
            "code": None if root in missing else code_of(root, packages),
        }

    def start(
        self, python: str, words: Sequence[str], payload: bytes, environment: Mapping[str, str], folder: str, log: str
    ) -> None:
        """Start the worker.

        Args:
            python: The interpreter, if the node has it; else the one of Ray.
            words: Its arguments; the number of the worker's end of the pipe follows.
            payload: The first that the worker reads from the pipe.
            environment: Variables beside those of this node.
            folder: Where it runs.
            log: The file for its output.
        """
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RAY_") and name not in _NOT_THE_WORKERS
        }
        self._pipe, theirs = Pipe()
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [python if os.access(python, os.X_OK) else sys.executable, *words, str(theirs.fileno())],
                cwd=folder,
                env={**kept, **environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        theirs.close()
        try:
            self._pipe.send_bytes(payload)
        except OSError:
            return  # it has ended already, which the next turn tells

    def turn(self, signals: Sequence[int], wait_s: float) -> tuple[list[bytes], int | None]:
        """Send the worker signals, and return what it said meanwhile, and its exit code once it has ended."""
        assert self._process is not None
        assert self._pipe is not None
        for number in signals:
            self._process.send_signal(signal.Signals(number))
        said: list[bytes] = []
        try:
            while self._pipe.poll(0 if said else wait_s):
                said.append(self._pipe.recv_bytes())
        except (EOFError, OSError):
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            return said, self._process.returncode
        return said, None

    def output(self, log: str) -> bytes:
        """The end of a worker's output."""
        try:
            with open(log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_SHOWN))
                return file.read(_MOST_SHOWN)
        except OSError:
            return b""

    def leave(self) -> None:
        """End the worker, and remove what it wrote here, where the program was shipped and no other one needs it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._scratch is not None:
            self._scratch.leave()
            self._scratch = None


class HeldFolder:
    """A temporary folder of this user's, which processes hold by a lock; those of its kind that nobody holds go.

    Args:
        kind: What the names of such folders begin with.
        token: What the name ends with; who names the same has the same folder.
    """

    def __init__(self, kind: str, token: str) -> None:
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{kind}*"):  # of processes that were killed
            if left.name != kind + token:
                _remove_unless_held(left)
        self.folder = parent / (kind + token)
        while True:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_own(self.folder):
                raise RuntimeError(f"{self.folder} is not this user's")
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if self.folder.exists() and os.path.samestat(os.fstat(self._lock), self.folder.stat()):
                return
            os.close(self._lock)  # whoever held it has just removed it

    def leave(self) -> None:
        """Remove it, unless somebody else holds it."""
        os.close(self._lock)
        _remove_unless_held(self.folder)


def _remove_unless_held(folder: Path) -> None:
    with contextlib.suppress(OSError):  # held, or not ours, or gone
        if not _is_own(folder):
            return
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _is_own(folder: Path) -> bool:
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()


def this_machine() -> str:
    """Tells this machine, since it was started, from all others; by its name alone where the system does not say."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        started = ""
    return f"{socket.gethostname()} {started}"


def code_of(root: str, packages: Sequence[str]) -> str:
    """Hash of a checkout's modules."""
    found = hashlib.sha256()
    for package in packages:
        for path in sorted(Path(root, package).rglob("*.py")):
            found.update(f"{path.relative_to(root)}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()
