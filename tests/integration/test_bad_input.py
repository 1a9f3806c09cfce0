"""Bad input from end to end: one sentence on stderr, exit status 2, and nothing written or lost."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.experiments.sealed import seal
from tests.helpers.closed_folders import closed

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SEARCH = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "--export-dir", "exported", "validation=holdout")
SECRET = "s3cret-word"
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here gets as far as training."""
    monkeypatch.setattr("search.workers.child.prepare_children", lambda: None, raising=True)


def test_outside_of_the_environment_the_missing_packages_are_named(program: Callable[..., Any], tmp_path: Path) -> None:
    sentence = program(*SEARCH, cwd=tmp_path, flags=("-S", "-E")).refusal()
    for package in ("torch", "lightning", "optuna", "fair-esm", "hydra-core", "sqlalchemy"):
        assert package in sentence
    assert "run `make .venv` once" in sentence
    assert list(tmp_path.iterdir()) == []
    answer = program("--help", cwd=tmp_path, flags=("-S", "-E"))
    assert answer.status == 0
    assert program("--task", "x", "--model", "cnn", cwd=tmp_path, flags=("-S", "-E")).refusal()


@pytest.mark.parametrize("option", ["--runs-dir", "--export-dir"])
def test_a_directory_that_cannot_be_written(command: Command, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("mine")
    sentence = command(*SEARCH, option, "file/below").refusal()
    assert "The directory file/below cannot be written" in sentence
    assert command(*SEARCH, option, "file").refusal()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [
        (*SEARCH, "--storage", "sqlite:///closed/s.db"),
        ("status", "--storage", "sqlite:///closed/s.db"),
        ("dashboard", "--storage", "sqlite:///closed/s.db"),
        ("submit", "--slurm", *SEARCH, "--storage", "sqlite:///closed/s.db"),
        (*SEARCH, "--weights-dir", "closed/weights"),
        ("data", "list", "--data-dir", "closed/data"),
        ("compare", "--task", "gb1_sampled", "--output", "closed/figures"),
    ],
    ids=" ".join,
)
def test_a_folder_that_this_user_may_not_enter(command: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "closed").mkdir()
    with closed(tmp_path / "closed"):
        sentence = command(*words).refusal()
    assert re.search(r"/?closed/\S+ cannot be used \(Permission denied\): name another\.$", sentence)
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.mark.parametrize("words", [("train", *SEARCH[:4]), ("status",)])
def test_other_commands_below_a_file(command: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file" in command(*words, "--runs-dir", "file/runs").refusal()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "is malformed: expected something like sqlite:///runs/studies.db"),
        (f"{SECRET}@host", "is malformed"),
        ("sqlite:studies.db", "is malformed"),
        ("://", "is malformed"),
        (f"nosuch://user:{SECRET}@localhost/db", "nosuch"),
        (f"mysql://user:{SECRET}@localhost/db", "is of a kind that is not known here: expected sqlite"),
        (f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/db", "does not answer"),
        ("sqlite://", "A study in memory is lost"),
        ("sqlite:///:memory:", "A study in memory is lost"),
        ("sqlite:///folder", "is a directory: name a file in it"),
        ("sqlite:///text.txt", "is no SQLite database"),
        ("sqlite:///text.txt/studies.db", "text.txt"),
    ],
)
@pytest.mark.parametrize("words", [("status",), SEARCH], ids=["status", "search"])
def test_a_storage_that_cannot_be_used(
    command: Command, tmp_path: Path, words: tuple[str, ...], url: str, sentence: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("no database, but somebody's text\n" * 100)
    answer = command(*words, "--storage", url)
    assert sentence in answer.refusal()
    assert SECRET not in answer.out + answer.err
    assert (tmp_path / "text.txt").read_text() == "no database, but somebody's text\n" * 100
    assert not list((tmp_path / "exported").glob("*"))


def test_the_storage_of_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPSEARCH_STORAGE", f"mysql://user:{SECRET}@localhost/db")
    answer = command("status")
    assert "mysql://user:***@localhost/db" in answer.refusal()
    assert SECRET not in answer.err


def test_status_of_what_is_not_there(command: Command, tmp_path: Path, finished_study: Any) -> None:
    assert "There is no study database" in command("status").refusal()
    assert list(tmp_path.iterdir()) == [], "a question makes no database"
    storage = f"sqlite:///{finished_study.database}"
    sentence = command("status", "--storage", storage, "--study-name", finished_study.name[:-1]).refusal()
    assert f"Did you mean '{finished_study.name}'?" in sentence


def test_status_as_json(command: Command, finished_study: Any) -> None:
    storage = f"sqlite:///{finished_study.database}"
    answer = command("status", "--storage", storage, "--study-name", finished_study.name, "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    named = "study task model direction n_target n_finished n_complete n_pruned n_failed n_running best"
    assert set(named.split()) <= set(found)
    assert {"number", "value", "params", "interval", "optimism", "n_indistinguishable"} == set(found["best"])
    assert set(found["best"]["params"]) == {"model.alpha"}
    assert {key: found[key] for key in named.split()[:-1]} == {
        "study": finished_study.name,
        "task": "synthetic_two_vs_rest",
        "model": "ridge",
        "direction": "maximize",
        "n_target": 2,
        "n_finished": 2,
        "n_complete": 2,
        "n_pruned": 0,
        "n_failed": 0,
        "n_running": 0,
    }
    for worth in ("interval", "optimism", "n_indistinguishable"):  # of one study: it takes a moment
        del found["best"][worth]
    every = json.loads(command("status", "--storage", storage, "--json").out)
    assert every == [found]
    table = command("status", "--storage", storage)
    assert finished_study.name in table.out
    assert "2/2" in table.out


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("seed=1",), "config.seed: 0 -> 1"),
        (("sampler=random",), "sampler._target_: "),
        (("pruner=median",), "pruner._target_: "),
        (("data.crop=none",), "config.data.crop: null -> "),
        (("data.max_length=20",), "config.data.max_length: null -> 20"),
        (("data.truncate=false",), "config.data.truncate: true -> false"),
        (("space.model.alpha.low=0.01",), "space.model.alpha.low: 0.0001 -> 0.01"),
        (("model.alpha=2.0",), "config.model.alpha: (none) -> 2.0"),
        (("--task", "synthetic_one_vs_rest"), 'task: "synthetic_two_vs_rest" -> "synthetic_one_vs_rest"'),
        (("model=cnn",), 'model: "ridge" -> "cnn"'),
    ],
)
def test_a_study_of_another_configuration_is_refused_with_what_differs(
    command: Command, finished_study: Any, overrides: tuple[str, ...], told: str
) -> None:
    words = ("--storage", f"sqlite:///{finished_study.database}", "--study-name", finished_study.name)
    task, model = SEARCH[:2], f"model={SEARCH[3]}"
    sentence = command(*task, model, *SEARCH[4:], *words, "trainer.threads=1", *overrides).refusal()
    assert f"Study '{finished_study.name}' was made with another configuration" in sentence
    assert told in sentence
    assert "config_hash" not in sentence
    assert "space_hash" not in sentence


def test_a_file_that_somebody_wrote_is_not_replaced(command: Command, tmp_path: Path) -> None:
    export = tmp_path / "exported" / "synthetic_two_vs_rest-ridge.yaml"
    export.parent.mkdir()
    for content in (
        "# my notes\nmodel:\n  channels: 3\n",
        "",
        "[",
        "provenance: {study: synthetic_two_vs_rest-ridge}\n",
    ):
        export.write_text(content)
        assert "exists and is not an export of study" in command(*SEARCH).refusal()
        assert export.read_text() == content
    assert not (tmp_path / "runs" / "studies.db").exists()


def test_an_export_says_nothing_of_its_machine_that_is_secret(finished_study: Any) -> None:
    text = finished_study.export.read_text(encoding="utf-8")
    for secret in (str(finished_study.folder), str(Path.home()), os.uname().nodename, sys.prefix):
        assert secret not in text


def _missing(path: Path) -> str:
    path.unlink()
    return "cannot be read"


def _text(path: Path) -> str:
    path.write_text("hello\n")
    return "is not a frozen experiment"


def _malformed(path: Path) -> str:
    path.write_text("model: [\n")
    return "is not valid YAML"


def _changed(path: Path) -> str:
    data = path.read_bytes()
    place = data.index(b"alpha: ") + len(b"alpha: ")
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    return "was changed since it was written"


def _newer(path: Path) -> str:
    path.write_text(seal(re.sub(r"schema_version: \d+\n", "schema_version: 999\n", path.read_text())))
    return "has schema version 999"


def _foreign(path: Path) -> str:
    path.write_text(seal(path.read_text().replace("models.ridge.Ridge", "models.ridge.torch.load")))
    return "model._target_=models.ridge.torch.load"


def _other_data(path: Path) -> str:
    digest = yaml.safe_load(path.read_text())["provenance"]["data_hash"]
    path.write_text(seal(path.read_text().replace(digest, "f" * len(digest))))
    return "was made on other data"


@pytest.mark.parametrize("words", [("verify",), ("train", "--experiment")], ids=["verify", "train"])
@pytest.mark.parametrize("spoil", [_missing, _text, _malformed, _changed, _newer, _foreign])
def test_an_experiment_that_is_not_right(
    command: Command,
    tmp_path: Path,
    finished_study: Any,
    spoil: Callable[[Path], str],
    words: tuple[str, ...],
) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(finished_study.export.read_bytes())
    sentence = spoil(copy)
    assert sentence in command(*words, str(copy)).refusal()
    assert not (tmp_path / "runs" / "train").exists()
    assert not (tmp_path / "runs" / "verify").exists()


def test_an_experiment_of_other_data(command: Command, tmp_path: Path, finished_study: Any) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(finished_study.export.read_bytes())
    sentence = _other_data(copy)
    assert sentence in command("verify", str(copy)).refusal()
