"""Programs in fresh interpreters, commands in this one, and one small finished study for all tests."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import search
from search.cli.main import main
from tests.helpers.answers import Answer, run_here
from tests.helpers.postgres import postgres, postgres_url  # noqa: F401  (fixtures)

ROOT = Path(search.__path__[0]).parent


@dataclass(frozen=True, kw_only=True)
class FinishedStudy:
    """A study of two trials in a folder of its own; `command` is the search that made it."""

    folder: Path
    name: str
    export: Path
    command: tuple[str, ...]
    answer: Answer

    @property
    def database(self) -> Path:
        return self.folder / "runs" / "studies.db"


Program = Callable[..., Answer]


@pytest.fixture(scope="session")
def here() -> Program:
    """`run_here`."""
    return run_here


@pytest.fixture(scope="session")
def program() -> Program:
    """Runs run_study.py in a fresh interpreter; `flags` are Python's own."""

    def run(*words: str, cwd: Path, flags: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Answer:
        done = subprocess.run(
            [sys.executable, *flags, str(ROOT / "run_study.py"), *words],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=800,
        )
        return Answer(status=done.returncode, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLIPSEARCH_STORAGE", "FLIPSEARCH_RUNS", "FLIPSEARCH_EXPORT", "FLIPSEARCH_MODELS"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Answer:
        capsys.readouterr()
        status = main(words)
        out, err = capsys.readouterr()
        return Answer(status=status, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, here: Program) -> FinishedStudy:
    """Two trials of ridge regression on the synthetic landscape. Tests read it; none changes it."""
    folder = tmp_path_factory.mktemp("finished study ä")
    words = (
        "--task",
        "synthetic_two_vs_rest",
        "--model",
        "ridge",
        "--export-dir",
        "exported",
        "trainer.threads=1",
        "validation=holdout",
    )
    answer = here(*words, "--n-trials", "2", cwd=folder)
    assert answer.status == 0, answer
    name = "synthetic_two_vs_rest-ridge"
    return FinishedStudy(
        folder=folder, name=name, export=folder / "exported" / f"{name}.yaml", command=words, answer=answer
    )
