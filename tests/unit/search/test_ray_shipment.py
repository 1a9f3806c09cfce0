"""What is sent to nodes that share no disk: the program's files and the data, and nothing else."""

import os
import subprocess
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.cluster.ray_shipment import PACKAGES, packed, product_files
from search.cluster.ray_supervisor import CHECKOUT, Supervisor, code_of
from search.machine.interpreters import own_program
from search.request.search_request import SearchRequest
from search.study.config import StudyConfig, study_config
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
        assert set(sent.needs) == {Path("/etc/ca.pem"), tmp_path, tmp_path / "kept"}


def test_a_matrix_has_to_be_on_every_node_at_a_whole_path(split: PreparedSplit) -> None:
    searched = "space.model.similarity.choices=[blosum62,physicochemical,/nodes/b.txt,/nodes/a.txt]"
    with packed(request(), config(searched, model="kernel"), split) as sent:
        assert sent.needs == (Path("/nodes/a.txt"), Path("/nodes/b.txt"))
    with packed(request(), config("model.similarity=/nodes/a.txt", model="kernel"), split) as sent:
        assert sent.needs == (Path("/nodes/a.txt"),)
    with pytest.raises(UserError, match=r"model\.similarity=my\.txt is a file of this machine, which --ship does not"):
        packed(request(), config("model.similarity=my.txt", model="kernel"), split).__enter__()


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
