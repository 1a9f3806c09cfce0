"""An empty workplace, and FLIP's own files where they are on this machine."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task


@dataclass
class Workplace:
    """A data folder, a cache, and what the user was told."""

    data: Path
    cache: Path
    said: list[str] = field(default_factory=list)

    def prepare(self, name: str = "gb1_two_vs_rest") -> PreparedSplit:
        return prepare(find_task(name), data_dir=self.data, cache_dir=self.cache, announce=self.said.append)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A place where nothing of this machine's is found: environment variable, ``data/``, user's cache."""
    monkeypatch.delenv("FLIPSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "dätä folder"
    data.mkdir()
    return Workplace(data=data, cache=tmp_path / "runs" / "cache")


@pytest.fixture
def prepare_flip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedSplit]:
    """Prepare a task of FLIP's files under $FLIPSEARCH_DATA; the test is skipped without them."""
    if not os.environ.get("FLIPSEARCH_DATA"):
        pytest.skip("$FLIPSEARCH_DATA is not set, so FLIP's files are not at hand")
    cache = tmp_path_factory.getbasetemp() / "flip"

    def prepare_task(name: str) -> PreparedSplit:
        return prepare(find_task(name), data_dir=None, cache_dir=cache, announce=lambda sentence: None)

    return prepare_task
