"""`serve` as a process, in a folder that its Postgres can reach, and another user of the machine."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.processes import ROOT

_PROGRAM = [sys.executable, str(ROOT / "run_study.py"), "serve"]


@dataclass(frozen=True, kw_only=True)
class OwnServer:
    """A `serve` that takes connections; `lines` is what it printed."""

    process: subprocess.Popen[str]
    lines: tuple[str, ...]
    url: str

    @property
    def password(self) -> str:
        found = re.search(r"flipsearch:([^@]+)@", self.url)
        assert found is not None
        return found[1]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status and what else it printed."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


def run_as() -> list[str]:
    """What root has to add; not everywhere is there a user `postgres`."""
    if os.geteuid() != 0:
        return []
    names = [entry.pw_name for entry in pwd.getpwall()]
    return ["--run-as", "postgres" if "postgres" in names else "nobody"]


def start_server(folder: Path, *words: str) -> OwnServer:
    """Serve from `folder` / server."""
    process = subprocess.Popen(
        [*_PROGRAM, "--folder", str(folder / "server"), *run_as(), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = (process.stdout.readline(), process.stdout.readline())
    if not lines[0].startswith("Serving "):
        process.kill()
        raise AssertionError((lines, process.communicate()))
    return OwnServer(process=process, lines=lines, url=(folder / "server" / "url").read_text().strip())


def call_server(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A `serve` on `folder` / server that ends by itself."""
    command = [*_PROGRAM, "--folder", str(folder / "server"), *run_as(), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The one sentence of a call that was refused."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("error: "), done
    return done.stderr


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[OwnServer]:
    """A server that ends with the block, unless it was ended inside."""
    server = start_server(folder, *words)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that others may pass through: pytest's own are closed to the user whom root's Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="flipsearch-serve-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(url: str) -> Mapping[str, str]:
    """That of a worker."""
    return {**os.environ, "FLIPSEARCH_STORAGE": url}


def as_another_user(act: Callable[[], str]) -> str:
    """What a function returns, or the error that it raises, for a user who is neither root nor runs Postgres.

    Forked rather than started: the interpreter may stand in root's home.
    """
    other = next(entry for entry in pwd.getpwall() if entry.pw_name in ("daemon", "nobody"))
    assert [other.pw_name] != run_as()[1:]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(other.pw_gid)
            os.setuid(other.pw_uid)
            try:
                said = act()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(write, said.encode()[:4096])
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
