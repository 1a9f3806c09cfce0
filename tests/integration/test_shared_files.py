"""Weights and predictions that one machine leaves in a shared folder, or in S3, are what another exports."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import search
from datasets.common.errors import UserError
from search.experiments.experiment import load_experiment
from search.study.artifact_store import shared_files
from search.study.artifacts import Artifacts
from tests.helpers.answers import run_here

NAME = "synthetic_two_vs_rest-ridge"
WORDS = ("--task", "synthetic_two_vs_rest", "--model", "ridge", "validation=holdout")


def request(folder: Path, **fields: Any) -> search.SearchRequest:
    """Of one machine: its folders are its own, the database is everybody's."""
    given = {
        "task": "synthetic_two_vs_rest",
        "model": "ridge",
        "overrides": ("validation=holdout",),
        "executor": "inline",
        "quiet": True,
        "n_trials": 3,
        "storage": f"sqlite:///{folder.parent / 'studies.db'}",
        "runs_dir": folder / "runs",
        "export_dir": folder / "export",
    }
    return search.SearchRequest(**{**given, **fields})


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a local S3 with a bucket."""
    server = pytest.importorskip("moto.server", reason="moto belongs to the test extra").ThreadedMotoServer(port=0)
    import boto3

    kept = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "planted-id",
        "AWS_SECRET_ACCESS_KEY": "planted-s3cret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
        boto3.client("s3").create_bucket(Bucket="studies")
        yield "s3://studies/team/a"
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(kept)


def keys() -> set[str]:
    import boto3

    found = boto3.client("s3").list_objects_v2(Bucket="studies")
    return {one["Key"] for one in found.get("Contents", [])}


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "shared") if request.param == "folder" else str(request.getfixturevalue("s3"))


def test_another_machine_exports_the_weights_and_the_intervals(where: str, tmp_path: Path) -> None:
    here = search.run_study(request(tmp_path / "a", artifacts=where))
    there = search.run_study(request(tmp_path / "b", artifacts=where))
    assert there.n_before == 3
    assert here.experiment is not None
    assert there.experiment is not None
    own, fetched = load_experiment(here.experiment), load_experiment(there.experiment)
    assert own.calibration is not None
    assert fetched.calibration is not None
    assert own.provenance.weight_hashes == fetched.provenance.weight_hashes
    for fold in here.experiment.with_suffix("").glob("*.safetensors"):
        assert fold.read_bytes() == (there.experiment.with_suffix("") / fold.name).read_bytes()
    assert search.load_experiment(there.experiment)
    assert here.assessment is not None
    assert here.assessment.n_compared == 3
    assert there.assessment == here.assessment, "what the best value is worth does not depend on who says it"


def test_only_the_best_trials_keep_weights_there(s3: str, tmp_path: Path) -> None:
    before = keys()
    outcome = search.run_study(request(tmp_path / "a", artifacts=s3, keep_top=1, n_trials=4))
    new = keys() - before
    assert all(key.startswith("team/a/") for key in new)
    assert len(new) == 4 + 1, "each trial's predictions, and the weights of the best"
    assert outcome.best is not None


def test_files_that_somebody_changed_there_are_not_taken(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    search.run_study(request(tmp_path / "a", artifacts=str(shared)))
    for file in shared.iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    answer = run_here(
        *(*WORDS, "--n-trials", "3", "--storage", f"sqlite:///{tmp_path / 'studies.db'}"),
        *("--runs-dir", "b/runs", "--export-dir", "b/export", "--artifacts", str(shared)),
        cwd=tmp_path,
    )
    assert answer.status == 0, answer
    assert "is not the file that the trial left there" in answer.err
    assert "is exported without them" in answer.err
    assert not list((tmp_path / "b" / "export" / NAME).glob("*.safetensors"))


def test_an_export_without_its_weights_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    search.run_study(request(tmp_path / "a"))
    monkeypatch.undo()
    words = (*WORDS, "--n-trials", "3", "--storage", f"sqlite:///{tmp_path / 'studies.db'}")
    answer = run_here(*words, "--runs-dir", "b/runs", "--export-dir", "b/export", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "they ran on node7; fetch them from its --runs-dir there: rsync -a " in answer.err


@pytest.mark.slow
def test_an_ensemble_is_made_of_what_another_machine_trained(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    search.run_study(request(tmp_path / "a", artifacts=shared))
    search.run_study(request(tmp_path / "b", artifacts=shared))
    shutil.rmtree(tmp_path / "a")
    answer = run_here(
        *("combine", NAME, "--export", "both", "--storage", f"sqlite:///{tmp_path / 'studies.db'}"),
        *("--runs-dir", "b/runs", "--export-dir", "b/export", "--artifacts", shared),
        cwd=tmp_path,
    )
    assert answer.status == 0, answer
    assert "trained again" not in answer.out + answer.err


@pytest.mark.parametrize("name", ["s3://", "s3://Bucket_/x", "gs://a/b", "s3://ab/c?x=1", "http://host/x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected a folder, or s3://BUCKET"):
        shared_files(name)


def test_a_bucket_that_cannot_be_used_is_refused_before_anything_trains(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, "--n-trials", "1", "--runs-dir", "r", "--export-dir", "e")
    answer = run_here(*words, "--artifacts", "s3://elsewhere/x", cwd=tmp_path)
    assert "s3://elsewhere/x cannot be reached" in answer.refusal()
    assert "planted" not in answer.err
    assert run_here("status", "--runs-dir", "r", cwd=tmp_path).out == "There is no study yet.\n"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "redentials" in run_here(*words, "--artifacts", s3, cwd=tmp_path).refusal()
    (tmp_path / "file").write_text("")
    assert "cannot be made" in run_here(*words, "--artifacts", "file/x", cwd=tmp_path).refusal()


def test_a_disk_of_this_machine_that_is_full_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    outcome = search.run_study(request(tmp_path / "a", artifacts=str(tmp_path / "shared")))
    found = shared_files(str(tmp_path / "shared"))
    assert found is not None
    assert outcome.best is not None
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"trial-0000\d cannot be written \(Not a directory\)"):
        found.fetch(outcome.best, file)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        with pytest.raises(UserError, match=r"File too large.*ulimit -f"):
            found.fetch(outcome.best, tmp_path / "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(found.fetch(outcome.best, tmp_path / "b")) == 2


def test_a_store_that_fails_in_the_middle_costs_no_trial(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    found = shared_files(str(shared))
    assert found is not None
    shutil.rmtree(shared)
    sentences: list[str] = []
    folder = tmp_path / "runs" / "study"
    keeper = Artifacts(directory=folder, keep_top=1, announce=sentences.append, shared=found)
    (folder / "trial-00000").mkdir(parents=True)
    weights = folder / "trial-00000" / "fold0.safetensors"
    weights.write_bytes(b"weights")
    keeper.keep(0, {weights: "6a1b8a0e-0000-4000-8000-000000000000"})
    keeper.keep(0, {weights: "6a1b8a0e-0000-4000-8000-000000000001"})
    assert len(sentences) == 1, "it is said once, not for each fold of each trial"
    assert "cannot be written to" in sentences[0]


def test_a_pipe_in_the_place_of_a_shared_file_ends_in_a_sentence(tmp_path: Path) -> None:
    outcome = search.run_study(request(tmp_path / "a", artifacts=str(tmp_path / "shared"), n_trials=1))
    assert outcome.best is not None
    for path in (tmp_path / "shared").iterdir():
        path.unlink()
        os.mkfifo(path)
    found = shared_files(str(tmp_path / "shared"))
    assert found is not None
    with pytest.raises(UserError, match=r"cannot be read \(it is a pipe"):
        found.fetch(outcome.best, tmp_path / "b")
    assert not list((tmp_path / "b").rglob("*.*"))
