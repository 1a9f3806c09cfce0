"""Studies share no file with the program: its own names are refused before anything is made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from search.storage import url as storage_url
from search.study import artifacts, run_names
from tests.helpers.answers import Answer
from tests.helpers.small_study import default_database, make_study
from tests.helpers.study_fixtures import FinishedStudy
from tests.helpers.tables import variants, write

SEARCH = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "--n-trials", "1")
RESERVED = [
    *("studies.db", "Studies.DB", "studies.db.lock", "studies.db-journal", "studies.db-wal", "studies.db-shm"),
    *("cache", "Cache", "data", "artifacts", "confirm", "CONFIRM", "comparison", "train", "verify"),
    *("other.yaml", "other.YAML", "other.ledger.jsonl", "other.lock", "other.tmp"),
]


def make_table(path: Path) -> None:
    write(path, "sequence,fitness", [(sequence, value) for _, sequence, value in variants()])


@pytest.mark.parametrize("name", RESERVED)
def test_the_programs_own_names_are_refused_before_anything_is_made(name: str, command: Callable[..., Answer]) -> None:
    sentence = command(*SEARCH, "--study-name", name).refusal()
    assert f"A study cannot be called {name!r}" in sentence
    assert os.listdir() == []


@pytest.mark.parametrize("name", [".", "..", "a/b", "-x", "_x", "a\nb", "a\0b", "a b", "x\n", "ä", "x" * 101, ".x.123"])
def test_what_is_no_name_of_a_file_is_refused(name: str, command: Callable[..., Answer]) -> None:
    sentence = command(*SEARCH, f"--study-name={name}").refusal()
    assert "is not valid: expected up to 100 letters, digits" in sentence
    assert os.listdir() == []


def test_a_database_of_another_name_is_not_shared_either(command: Callable[..., Answer]) -> None:
    for name in ("mine.db", "mine.db-wal"):
        words = ("--storage", "sqlite:///runs/mine.db?timeout=5", "--study-name", name)
        assert "A study cannot be called" in command(*SEARCH, *words).refusal()
    assert os.listdir() == []


def test_a_study_that_has_such_a_name_already_still_opens(command: Callable[..., Answer], tmp_path: Path) -> None:
    database, _ = make_study(default_database(tmp_path))
    optuna.create_study(storage=database.storage, study_name="cache", direction="maximize")
    answer = command(*SEARCH, "--study-name", "cache", "validation=holdout", "--quiet")
    assert (answer.status, answer.err) == (0, "")
    assert "A study cannot be called 'data'" in command(*SEARCH, "--study-name", "data").refusal()


@pytest.mark.parametrize("name", ["cache", "data", "studies.db"])
def test_studies_that_are_called_after_a_table_share_nothing(name: str, command: Callable[..., Answer]) -> None:
    make_table(Path(f"{name}.csv"))
    words = ("--data", f"{name}.csv", "--split", "random", "--model", "ridge", "--n-trials", "1", "--quiet")
    answer = command(*words, "trainer.threads=1", "validation=holdout")
    assert (answer.status, answer.err) == (0, "")
    assert len([*Path("runs").glob(f"{name[:7]}*-random*-ridge/trial-00000")]) == 1
    assert Path("runs/studies.db").is_file()


def test_a_folder_of_the_study_that_is_a_file_is_a_sentence(command: Callable[..., Answer]) -> None:
    Path("runs").mkdir()
    Path("runs/mine").write_text("kept")
    assert (
        "runs/mine, where the files of study 'mine' belong, is no folder"
        in command(*SEARCH, "--study-name", "mine").refusal()
    )
    assert os.listdir("runs") == ["mine"]


def test_all_that_the_program_makes_below_runs_is_known(
    command: Callable[..., Answer], finished_study: FinishedStudy, tmp_path: Path
) -> None:
    for name in ("runs", "exported"):
        shutil.copytree(finished_study.folder / name, tmp_path / name)
    export = f"exported/{finished_study.name}.yaml"
    make_table(Path("mine.csv"))
    words = ("--data", "mine.csv", "--split", "random", "--model", "ridge", "--n-trials", "1", "validation=holdout")
    for line in (
        (*words, "--quiet"),
        ("confirm", export, "--seeds", "1", "--quiet"),
        ("verify", export, "--quiet"),
        ("train", "--experiment", export, "--quiet"),
        ("compare", "--task", "synthetic_two_vs_rest", "--export-dir", "exported"),
    ):
        assert command(*line).status == 0, line
    others = {name for name in os.listdir("runs") if not run_names.is_reserved(name)}
    assert sorted(others)[1:] == [finished_study.name]
    assert min(others).startswith("mine-")
    assert {"cache", "data", "artifacts", "train", "verify", "confirm", "comparison"} <= set(os.listdir("runs"))
    assert artifacts.ARTIFACTS == run_names.ARTIFACTS
    assert storage_url.default_url(Path("r")).endswith(f"/r/{run_names.DATABASE}")
