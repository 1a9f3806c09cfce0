"""Dashboards as processes, and requests to them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.processes import ROOT


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard that runs; `address` ends with a slash."""

    process: subprocess.Popen[str]
    address: str

    def ask(self, path: str, method: str = "GET", content: Any = None, host: str | None = None) -> Reply:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if host is not None:
            headers["Host"] = host
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Reply(status=reply.status, headers=dict(reply.headers), body=reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(status=error.code, headers=dict(error.headers), body=error.read())

    def studies(self) -> list[str]:
        """Their names."""
        return [study["study_name"] for study in self.ask("api/studies").json()["study_summaries"]]

    def study(self, number: int = 1) -> Any:
        """All that is shown of a study."""
        return self.ask(f"api/studies/{number}").json()


def start_dashboard(
    folder: Path, *words: str, command: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A dashboard on a free port, in a folder where a search ran."""
    program = command or (sys.executable, str(ROOT / "run_study.py"), "dashboard", "--port", "0")
    return subprocess.Popen(
        [*program, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def address_of(process: subprocess.Popen[str]) -> str:
    """Where it listens, once it does."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+:[0-9]+/", line)
    if found is None:
        process.kill()
        raise AssertionError((line, process.communicate()))
    return found[0]


def end(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str, str]:
    """Exit status and what else it printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@contextlib.contextmanager
def running_dashboard(folder: Path, *words: str) -> Iterator[Dashboard]:
    """A dashboard that ends, without a word on standard error, with the block."""
    process = start_dashboard(folder, *words)
    try:
        yield Dashboard(process=process, address=address_of(process))
    finally:
        ended = end(process)
    assert ended == (0, "", "")
