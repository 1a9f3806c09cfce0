"""A good export is never replaced by a worse one, and nothing but a trial's own weights is exported."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from search.experiments.experiment import load_experiment
from search.experiments.files import check_exported_weights
from search.experiments.sealed import seal
from search.reporting.summary import export_best
from search.request.inputs import load_split
from search.storage.database import open_database
from search.study.config import StudyConfig, study_config
from search.study.study import best_trial, find_study

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

NAME = "synthetic_two_vs_rest-ridge"


@pytest.fixture
def folder(finished_study: Any, tmp_path: Path) -> Path:
    """A copy of the finished study that a test may change."""
    return Path(shutil.copytree(finished_study.folder, tmp_path / "copy ä"))


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def write_result(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the database holds of the best trial, as anybody can who may write to it."""
    connection = sqlite3.connect(folder / "runs" / "studies.db")
    with connection:
        for number, text in connection.execute(
            "select trial_user_attribute_id, value_json from trial_user_attributes where key = 'result'"
        ).fetchall():
            record = json.loads(text)
            change(record)
            connection.execute(
                "update trial_user_attributes set value_json = ? where trial_user_attribute_id = ?",
                (json.dumps(record), number),
            )
    connection.close()


def age(path: Path) -> None:
    """Make the export one of a version that knew no identities."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    del tree["provenance"]["checksum"], tree["provenance"]["study_id"]
    tree["provenance"]["schema_version"] = 3
    path.write_text(seal(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)), encoding="utf-8")


def best_folder(folder: Path) -> Path:
    number = load_experiment(folder / "exported" / f"{NAME}.yaml").provenance.trial
    return folder / "runs" / NAME / f"trial-{number:05d}"


@pytest.mark.slow
def test_another_study_of_the_same_name_does_not_replace_an_export(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    before = content(folder / "exported")
    words = (*finished_study.command, "--runs-dir", "other runs", "model.alpha=1000")
    for n_trials in (1, 1, 2):
        answer = here(*words, "--n-trials", str(n_trials), cwd=folder)
        assert answer.status == 0, answer
        assert f"exported/{NAME}.yaml is the experiment of another study" in answer.err
        assert f"it stays, and this export is written to exported/{NAME}-2.yaml." in answer.err
        assert f"verify exported/{NAME}-2.yaml" in answer.out
    after = content(folder / "exported")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [f"{NAME}-2.yaml", f"{NAME}-2/fold0.safetensors"]
    other = load_experiment(folder / "exported" / f"{NAME}-2.yaml")
    assert other.provenance.n_finished == 2
    check_exported_weights(folder / "exported" / f"{NAME}-2.yaml", other.provenance.weight_hashes)
    assert other.provenance.study_id != load_experiment(folder / "exported" / f"{NAME}.yaml").provenance.study_id
    report = ("report", "--study-name", NAME, "--export-dir", "exported", "--output", "r.html")
    for runs, export in (("runs", f"exported/{NAME}.yaml"), ("other runs", f"exported/{NAME}-2.yaml")):
        assert here(*report, "--runs-dir", runs, cwd=folder).status == 0
        assert f"verify {export}" in (folder / "r.html").read_text(encoding="utf-8")
    # It is found, too, where the one before it was moved away.
    (folder / "exported" / f"{NAME}.yaml").unlink()
    assert here(*report, "--runs-dir", "other runs", cwd=folder).status == 0
    assert f"verify exported/{NAME}-2.yaml" in (folder / "r.html").read_text(encoding="utf-8")


def test_a_restored_older_database_does_not_replace_an_export(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    shutil.copytree(folder / "runs", folder / "backup")
    assert here(*finished_study.command, "--n-trials", "3", cwd=folder).status == 0
    before = content(folder / "exported")
    shutil.rmtree(folder / "runs")
    (folder / "backup").rename(folder / "runs")
    for _ in range(2):
        answer = here(*finished_study.command, "--n-trials", "2", cwd=folder)
        assert answer.status == 0, answer
        assert "had 3 finished trials, of which this database has 2: it stays" in answer.err
    after = content(folder / "exported")
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == [f"{NAME}-2.yaml", f"{NAME}-2/fold0.safetensors"]


def test_a_copied_database_that_lacks_the_exported_trial_does_not_replace_it(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    """It has as many trials, but others: that it went on by itself is told by the exported trial."""
    before = content(folder / "exported")
    write_result(folder, lambda record: record.update(seconds=record["seconds"] + 1))
    answer = here(*finished_study.command, "--n-trials", "2", cwd=folder)
    assert answer.status == 0, answer
    assert "which is not in this database: it stays" in answer.err
    assert {name: content(folder / "exported")[name] for name in before} == before


def test_an_export_is_replaced_by_its_own_study_that_knows_more(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    answer = here(*finished_study.command, "--n-trials", "3", cwd=folder)
    assert answer.status == 0, answer
    assert "it stays" not in answer.err
    assert sorted(content(folder / "exported")) == [f"{NAME}.yaml", f"{NAME}/fold0.safetensors"]
    assert load_experiment(folder / "exported" / f"{NAME}.yaml").provenance.n_finished == 3


@pytest.mark.slow
def test_an_export_of_an_older_version_is_replaced_by_the_study_that_has_its_trial(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    path = folder / "exported" / f"{NAME}.yaml"
    age(path)
    old = path.read_bytes()
    answer = here(*finished_study.command, "--n-trials", "2", cwd=folder)
    assert answer.status == 0, answer
    assert path.read_bytes() == old, "what was confirmed of it would be lost"
    other = here(*finished_study.command, "--n-trials", "1", "--runs-dir", "other runs", "model.alpha=1000", cwd=folder)
    assert other.status == 0, other
    assert "is not in this database" in other.err or "of which this database has 1" in other.err
    assert path.read_bytes() == old
    assert here(*finished_study.command, "--n-trials", "3", cwd=folder).status == 0
    assert load_experiment(path).provenance.study_id is not None
    assert load_experiment(path).provenance.n_finished == 3


def test_a_study_made_before_there_were_identities_is_given_one(
    here: Callable[..., Any], finished_study: Any, folder: Path
) -> None:
    connection = sqlite3.connect(folder / "runs" / "studies.db")
    with connection:
        connection.execute("delete from study_user_attributes where key = 'study_id'")
    connection.close()
    age(folder / "exported" / f"{NAME}.yaml")
    answer = here(*finished_study.command, "--n-trials", "3", cwd=folder)
    assert answer.status == 0, answer
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{folder / 'runs' / 'studies.db'}")
    identity = study.user_attrs["study_id"]
    assert load_experiment(folder / "exported" / f"{NAME}.yaml").provenance.study_id == identity
    assert here(*finished_study.command, "--n-trials", "3", cwd=folder).status == 0
    assert study.user_attrs["study_id"] == identity


def test_what_a_person_changed_while_the_search_ran_is_not_replaced(folder: Path) -> None:
    path = folder / "exported" / f"{NAME}.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("alpha: ", "alpha: 1"), encoding="utf-8")
    before = content(folder / "exported")
    said: list[str] = []
    assert export(folder, folder / "runs", said.append) == path.with_name(f"{NAME}-2.yaml")
    assert "is no experiment of one trial that this version wrote and nobody changed: it stays" in said[0]
    assert {name: content(folder / "exported")[name] for name in before} == before


@cache
def config() -> StudyConfig:
    """That of the finished study. Made once: Hydra composes in one thread alone."""
    return study_config(["task=synthetic_two_vs_rest", "model=ridge", "trainer.threads=1", "validation=holdout"])


def export(folder: Path, runs: Path, announce: Callable[[str], None]) -> Path:
    """What a search does at its end."""
    split = load_split(config().find_task(), None, runs, print)
    study = find_study(open_database(f"sqlite:///{runs / 'studies.db'}", create=False), NAME)
    best = best_trial(study.get_trials(deepcopy=False))
    assert best is not None
    return export_best(study, best, config(), split, folder / "exported" / f"{NAME}.yaml", runs=runs, announce=announce)


def test_studies_that_export_at_the_same_moment_do_not_mix(folder: Path) -> None:
    shutil.rmtree(folder / "exported")
    (folder / "exported").mkdir()
    runs = [folder / "runs", *(folder / f"runs {i}" for i in range(3))]
    for other in runs[1:]:
        shutil.copytree(folder / "runs", other)
        connection = sqlite3.connect(other / "studies.db")
        with connection:
            text = json.dumps(os.urandom(16).hex())
            connection.execute("update study_user_attributes set value_json = ? where key = 'study_id'", (text,))
        connection.close()
    config()
    together, places = threading.Barrier(len(runs)), dict[Path, Path]()

    def work(own: Path) -> None:
        together.wait()
        places[own] = export(folder, own, lambda sentence: None)

    threads = [threading.Thread(target=work, args=(own,)) for own in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in places.values()) == [f"{NAME}{end}.yaml" for end in ("-2", "-3", "-4", "")]
    for own, path in places.items():
        experiment = load_experiment(path)
        check_exported_weights(path, experiment.provenance.weight_hashes)
        assert export(folder, own, lambda sentence: None) == path, "its own, found again"


@pytest.mark.parametrize("kind", ["named", "folder", "file", "device", "pipe", "up"])
def test_files_outside_of_the_runs_folder_are_not_exported(folder: Path, tmp_path: Path, kind: str) -> None:
    """The database names a file, or a link in the runs folder leads to one; no hash says that it is not the weights."""
    secret = tmp_path / "secret" / "fold0.safetensors"
    secret.parent.mkdir()
    secret.write_bytes(b"root:secret")
    named = {"named": [str(secret)], "up": [f"../../../{secret}"]}.get(kind, ["fold0.safetensors"])
    write_result(folder, lambda record: record.update(checkpoints=named, weight_hashes=[]))
    weights = best_folder(folder) / "fold0.safetensors"
    weights.unlink()
    if kind == "folder":
        shutil.rmtree(weights.parent)
        weights.parent.symlink_to(secret.parent)
    elif kind == "file":
        weights.symlink_to(secret)
    elif kind == "device":
        weights.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(weights)
    shutil.rmtree(folder / "exported")
    (folder / "exported").mkdir()
    said: list[str] = []
    path = export(folder, folder / "runs", said.append)
    assert load_experiment(path).provenance.weight_hashes == ["missing"]
    assert list(content(folder / "exported")) == [f"{NAME}.yaml"]
    assert any("the experiment is exported without them" in sentence for sentence in said)


def test_what_was_changed_since_its_hash_was_recorded_is_not_exported(folder: Path) -> None:
    weights = best_folder(folder) / "fold0.safetensors"
    weights.unlink()
    weights.write_bytes(b"others")
    shutil.rmtree(folder / "exported")
    (folder / "exported").mkdir()
    said: list[str] = []
    export(folder, folder / "runs", said.append)
    assert list(content(folder / "exported")) == [f"{NAME}.yaml"]
    assert "or were changed: the experiment is exported without them" in said[0]


def test_rows_of_older_versions_without_a_hash_are_exported_with_a_note(folder: Path) -> None:
    before = content(folder / "exported")
    write_result(folder, lambda record: record.pop("weight_hashes"))
    shutil.rmtree(folder / "exported")
    (folder / "exported").mkdir()
    said: list[str] = []
    path = export(folder, folder / "runs", said.append)
    assert "recorded no hashes of its weights" in said[0]
    name = f"{NAME}/fold0.safetensors"
    assert content(folder / "exported")[name] == before[name]
    check_exported_weights(path, load_experiment(path).provenance.weight_hashes)


def test_a_link_in_the_place_of_the_weights_is_not_followed(
    here: Callable[..., Any], finished_study: Any, folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "fold1.safetensors").write_bytes(b"precious")
    shutil.rmtree(folder / "exported" / NAME)
    (folder / "exported" / NAME).symlink_to(victim)
    refusal = here(*finished_study.command, "--n-trials", "2", cwd=folder).refusal()
    assert f"exported/{NAME} is a link, and the weights of" in refusal
    assert content(victim) == {"fold1.safetensors": b"precious"}


@pytest.mark.parametrize(
    "change",
    [
        {"threads": "many"},
        {"threads": 2**31},
        {"values": 3},
        {"values": [[float("inf")]]},
        {"values": []},
        {"best_epochs": [10**12]},
        {"best_epochs": [-1]},
        {"weight_hashes": ["/etc/passwd"]},
        {"weight_hashes": 7},
        {"seconds": "long"},
        {"device": "\x1b[2J"},
        {"machine": None},
        {"versions": {"a": "x" * 10_000}},
        {"n_parameters": True},
        {"backbone": {"a": 1}},
    ],
    ids=lambda change: f"{change!r:.40}",
)
def test_a_trial_that_was_tampered_with_is_not_exported_but_named(
    here: Callable[..., Any], finished_study: Any, folder: Path, change: dict[str, Any]
) -> None:
    before = content(folder / "exported")
    write_result(folder, lambda record: record.update(change))
    refusal = here(*finished_study.command, "--n-trials", "2", "--quiet", cwd=folder).refusal()
    # Most of it is refused when it is read, the rest when an experiment is made of it.
    assert NAME in refusal
    assert "what the database holds of it is not valid" in refusal or "doctor --repair" in refusal
    assert content(folder / "exported") == before
