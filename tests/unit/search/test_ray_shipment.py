"""What is sent to nodes that share no disk: the program's files and the data, and nothing else."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.cluster.ray_shipment import PACKAGES, packed, product_files
from search.cluster.ray_supervisor import CHECKOUT, HeldFolder, Supervisor, code_of
from search.machine.interpreters import own_program
from search.request.search_request import SearchRequest
from search.study.config import StudyConfig, study_config
from search.workers.fleet_worker import Assignment
from search.workers.worker import Worker
from tests.helpers.processes import ROOT

PROGRAM = ("run_study.py", "search/main.py", "studies/model/cnn.yaml")
OTHERS = (".env", "studies/.env", "models/id.key", "search/studies.db", "runs/studies.db", "notes.txt")
OTHERS += ("studies/experiment/best.yaml", "models/.secret.py", "tests/test.py")
POSTGRES = "postgresql+psycopg://user@host/name"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*PROGRAM, *OTHERS):
        path = tmp_path / "program" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "program" / "search" / "link.py").symlink_to("/etc/passwd")
    return tmp_path / "program"


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("split")
    return prepare(find_task("synthetic_two_vs_rest"), data_dir=None, cache_dir=folder, announce=print)


def request(**fields: object) -> SearchRequest:
    given = {"task": "synthetic_two_vs_rest", "model": "ridge", "storage": POSTGRES, "artifacts": "s3://bucket/x"}
    return SearchRequest(**{**given, **fields})  # type: ignore[arg-type]


def config(*overrides: str, model: str = "ridge") -> StudyConfig:
    return study_config(("task=synthetic_two_vs_rest", f"model={model}", *overrides))


def names(files: list[Path], folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in files}


def test_a_folder_that_is_no_clone_sends_its_program(folder: Path) -> None:
    assert names(product_files(folder), folder) == set(PROGRAM)


def test_a_clone_sends_what_git_tracks_of_the_program_as_it_stands_now(folder: Path) -> None:
    git = ("git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(folder))
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "--all", "--force"], check=True)
    (folder / "search" / "new.py").write_text("nobody has added it")
    (folder / "models" / ".secret.py").unlink()
    assert names(product_files(folder), folder) == set(PROGRAM)


def test_the_data_go_with_it_by_the_name_that_holds_their_hash(split: PreparedSplit) -> None:
    with packed(request(), config(), split) as sent:
        assert code_of(str(sent.folder / CHECKOUT), PACKAGES) == code_of(str(ROOT), PACKAGES) == sent.code
        copy = sent.folder / "inputs" / split.path.name
        assert copy.read_bytes() == split.path.read_bytes()
        assert {path.name for path in sent.folder.iterdir()} == {CHECKOUT, "inputs"}
        assert sent.shared is None
    assert not sent.folder.exists()


def test_a_folder_of_artifacts_and_files_of_the_storage_have_to_be_there(
    split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPSEARCH_ARTIFACTS", os.path.relpath(tmp_path / "kept"))
    storage = f"{POSTGRES}?sslmode=verify-ca&sslrootcert=/etc/ca.pem"
    with packed(request(artifacts=None, storage=storage, weights_dir=tmp_path), config(), split) as sent:
        assert sent.shared == tmp_path / "kept"
        assert set(sent.needs) == {Path("/etc/ca.pem"), tmp_path / "kept"}
        assert sent.weights_dir is None, "ridge has no use for it"
    with packed(request(storage=f"{POSTGRES}?sslmode=verify-full&sslrootcert=system"), config(), split) as sent:
        assert sent.needs == ()


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    """With the backbone of `model=esm` as a file and as a folder, and with what that has no use for."""
    folder = tmp_path / "weights"
    for name in (BACKBONE, "esm2_t12_35M_UR50D"):
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.pt").write_text(name)
        for file in ("config.json", "model.safetensors", "README.md"):
            (folder / name / file).write_text(file)
    return folder


BACKBONE = "esm2_t6_8M_UR50D"


def test_the_pretrained_weights_that_a_search_may_use_are_sent(split: PreparedSplit, weights_dir: Path) -> None:
    own = {f"{BACKBONE}.pt", f"{BACKBONE}/config.json", f"{BACKBONE}/model.safetensors"}
    with packed(request(model="esm", weights_dir=weights_dir), config(model="esm"), split) as sent:
        assert sent.weights_dir is not None
        copy = sent.folder / sent.weights_dir
        assert names([path for path in copy.rglob("*") if path.is_file()], copy) == own
        assert sent.needs == ()
        worker = partial(Worker, places=Places(weights_dir=weights_dir, cache_dir=weights_dir), split=split.path)
        here = Assignment(url=POSTGRES, runs=weights_dir, study="s", keep_top=1, make_worker=worker)
        placed: Any = sent.placed(here, root=Path("/node/checkout"), scratch=Path("/tmp/s")).make_worker
        there = placed.keywords
        assert there["places"].weights_dir == Path("/node/inputs/weights")
    wide = config("space=esm_wide", model="esm")
    with packed(request(model="esm", weights_dir=weights_dir), wide, split) as sent:
        assert (sent.folder / "inputs" / "weights" / "esm2_t12_35M_UR50D.pt").exists()


def test_weights_that_are_too_large_have_to_be_on_every_node(split: PreparedSplit, weights_dir: Path) -> None:
    with open(weights_dir / f"{BACKBONE}.pt", "wb") as file:
        file.truncate(300 * 10**6)  # of holes
    with packed(request(model="esm", weights_dir=weights_dir), config(model="esm"), split) as sent:
        assert sent.needs == (weights_dir,)
        assert sent.weights_dir == weights_dir
        assert not (sent.folder / "inputs" / "weights").exists()


KILLED = """
import os, signal, sys, tempfile
sys.path.insert(0, sys.argv[1])
tempfile.tempdir = sys.argv[2]
from search.cluster.ray_supervisor import HeldFolder
print(HeldFolder("flipsearch-ship-", "killed").folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_search_left_is_removed_by_the_next_and_nothing_else(
    split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = [sys.executable, "-P", "-c", KILLED, str(ROOT), str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, text=True)
    assert killed.stdout == f"{tmp_path}/flipsearch-ship-killed\n"
    (tmp_path / "flipsearch-ship-killed" / "checkout").mkdir()
    stays = {"elsewhere", "flipsearch-ship-file", "flipsearch-ship-link", "flipsearch-shipyard", "flipsearch-ship-used"}
    for name in ("elsewhere", "flipsearch-shipyard"):
        (tmp_path / name).mkdir()
    (tmp_path / "flipsearch-ship-file").write_text("")
    (tmp_path / "flipsearch-ship-link").symlink_to(tmp_path / "elsewhere")
    if os.geteuid() == 0:
        (tmp_path / "flipsearch-ship-theirs").mkdir()
        os.chown(tmp_path / "flipsearch-ship-theirs", 12345, 12345)
        stays.add("flipsearch-ship-theirs")
    used = HeldFolder("flipsearch-ship-", "used")
    with packed(request(), config(), split) as sent:
        assert sent.folder.parent == tmp_path
        assert sent.folder.stat().st_mode & 0o777 == 0o700
        assert {path.name for path in tmp_path.iterdir()} == {*stays, sent.folder.name}
    assert {path.name for path in tmp_path.iterdir()} == stays
    used.leave()


def test_a_matrix_has_to_be_on_every_node_at_a_whole_path(split: PreparedSplit) -> None:
    searched = "space.model.similarity.choices=[blosum62,physicochemical,/nodes/b.txt,/nodes/a.txt]"
    with packed(request(), config(searched, model="kernel"), split) as sent:
        assert sent.needs == (Path("/nodes/a.txt"), Path("/nodes/b.txt"))
    with packed(request(), config("model.similarity=/nodes/a.txt", model="kernel"), split) as sent:
        assert sent.needs == (Path("/nodes/a.txt"),)
    with pytest.raises(UserError, match=r"model\.similarity=my\.txt is a file of this machine, which --ship does not"):
        packed(request(), config("model.similarity=my.txt", model="kernel"), split).__enter__()


@pytest.mark.parametrize("file", ["sslrootcert=ca.pem", "sslcert=./me.pem", "passfile=system"])
def test_a_file_of_the_storage_is_on_every_node_at_a_whole_path(split: PreparedSplit, file: str) -> None:
    with pytest.raises(UserError, match="name it by its whole path"):
        packed(request(storage=f"{POSTGRES}?{file}"), config(), split).__enter__()


def test_too_much_is_refused_before_anything_is_copied(split: PreparedSplit) -> None:
    with open(split.embeddings_path, "wb") as file:
        file.truncate(300 * 10**6)  # of holes
    try:
        with pytest.raises(UserError, match=r"would send 30\d MB, of which .*\.embeddings has 300, and at most 210"):
            packed(request(), config(), split).__enter__()
    finally:
        split.embeddings_path.unlink()


def test_supervisors_of_one_search_share_a_folder_that_goes_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'ray>=2.52'")
    # Outside of an actor Ray would start a cluster for this question, or wait for one that once ran on this machine.
    monkeypatch.setattr("ray.get_gpu_ids", list)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second, other = Supervisor(), Supervisor(), Supervisor()
    seen = [
        supervisor.look([], None, None, [], token) for supervisor, token in ((first, "a"), (second, "a"), (other, "b"))
    ]
    folder = Path(seen[0]["scratch"])
    assert [found["scratch"] for found in seen] == [str(folder), str(folder), str(folder.with_name("flipsearch-ray-b"))]
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "written").write_text("")
    first.leave()
    assert (folder / "written").exists()
    second.leave()
    second.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["flipsearch-ray-b"]
    other.leave()


def test_the_program_of_another_machine_takes_modules_from_its_own_checkout() -> None:
    words = own_program("pass", Path("/elsewhere"))
    assert "'/elsewhere/search/machine/own_imports.py'" in words
    assert str(ROOT) not in words
    assert own_program("pass") == own_program("pass", ROOT)
