"""Models outside the checkout: found, checked, run everywhere alike, and refused where somebody else could write."""

import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import search
from datasets.common.errors import UserError
from search.config.run_config import RunConfig
from search.config.targets import DIVISION, MODEL, PRUNER, VALIDATION, check, instantiate
from search.experiments.experiment import load_experiment
from search.machine import own_models
from search.storage.attributes import MANIFEST
from search.storage.database import open_database
from search.study.config import study_config
from search.study.study import find_study
from tests.helpers.answers import run_here
from tests.helpers.own_folder import make_folder, write
from tests.helpers.study_fixtures import Program

LINEAR = {"_target_": "own_models.linear.Linear", "width": 8, "lr": 0.01}
SEARCH = (
    *("--task", "synthetic_one_vs_rest", "--model", "linear", "validation=holdout"),
    *("trainer.max_epochs=2", "trainer.threads=1"),
)
NAME = "synthetic_one_vs_rest-linear"
MODEL_NAME = "own_models.linear.Linear"


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test has a folder that it does not name, and none leaves one to others."""
    monkeypatch.delenv(own_models.VARIABLE, raising=False)
    own_models.use_folder(None)
    yield
    own_models.use(None)
    own_models.use_folder(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "mine")


def refusal_of(folder: Path, *words: str) -> str:
    """Why a dry run with the folder is refused; it is told before torch is loaded."""
    return run_here(*SEARCH, "--dry-run", "--models-dir", str(folder), *words, cwd=folder.parent).refusal()


@pytest.mark.timeout(1800)
def test_a_model_of_a_folder_is_like_ours(folder: Path, tmp_path: Path, program: Program) -> None:
    """Searched by two workers, verified, confirmed, trained and predicted with; and refused without the folder."""
    env = {own_models.VARIABLE: str(folder)}
    answer = program(*SEARCH, "--n-trials", "2", "--workers", "2", "--models-dir", "mine", cwd=tmp_path)
    assert answer.status == 0, answer
    assert f"verify studies/experiment/{NAME}.yaml --models-dir mine" in answer.out
    path = tmp_path / "studies" / "experiment" / f"{NAME}.yaml"
    own_models.use_folder(folder)
    provenance = load_experiment(path).provenance
    study = find_study(open_database(f"sqlite:///{tmp_path / 'runs' / 'studies.db'}", create=False), NAME)
    assert study.user_attrs[MANIFEST]["model_source"] == provenance.model_source == own_models.source_hash(MODEL_NAME)

    again = program(*SEARCH, "--n-trials", "2", cwd=tmp_path, env=env)
    assert "2 finished trials of the 2 asked for: nothing to do." in again.err
    verified = program("verify", str(path), cwd=tmp_path, env=env)
    assert verified.status == 0, verified
    assert "verified: 2 values in 1 fold(s) are equal bit for bit" in verified.out
    for words in (
        ("confirm", str(path), "--seeds", "1"),
        ("predict", str(path), "--mutagenesis", "singles", "--top", "3", "--output", "ranked.csv"),
        ("train", "--experiment", str(path)),
    ):
        assert run_here(*words, "--models-dir", "mine", cwd=tmp_path).status == 0, words
    for words in (
        ("verify", str(path)),
        ("confirm", str(path)),
        ("predict", str(path), "--mutagenesis", "singles"),
        ("train", "--experiment", str(path)),
    ):
        sentence = run_here(*words, cwd=tmp_path).refusal()
        assert f"{NAME}.yaml needs the model own_models.linear.Linear, which is outside the checkout" in sentence
        assert "the folder that holds linear.py with --models-dir DIR or $FLIPSEARCH_MODELS." in sentence
    assert run_here("status", cwd=tmp_path).status == 0

    with (folder / "linear.py").open("a") as file:
        file.write("# a remark\n")
    changed = run_here("verify", str(path), "--models-dir", "mine", cwd=tmp_path)
    assert changed.status == 0, changed
    assert "was made with another source of own_models.linear.Linear (sha256:" in changed.err
    refused = run_here(*SEARCH, "--n-trials", "3", "--models-dir", "mine", cwd=tmp_path).refusal()
    assert f"Study {NAME!r} was made with another configuration (model_source: " in refused


def test_a_dry_run_shows_it(folder: Path, tmp_path: Path) -> None:
    """With what its YAML sets besides the model, unless the command line does."""
    config = (folder / "linear.yaml").read_text()
    write(folder, "linear.yaml", config + "trainer: {max_epochs: 7, patience: 5}\ndata: {batch_size: 16}\n")
    answer = run_here(*SEARCH, "--dry-run", "--models-dir", "mine", "model.width=12", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "_target_: own_models.linear.Linear\n  width: 12\n" in answer.out
    assert "max_epochs: 2\n  patience: 5\n" in answer.out
    assert "batch_size: 16\n" in answer.out
    assert "(residues): Embedding" in answer.out
    assert re.search(r"# the space: 1 searched values\nmodel\.lr:", answer.out)


def test_without_a_folder_there_is_no_such_model(tmp_path: Path) -> None:
    sentence = run_here(*SEARCH, cwd=tmp_path).refusal()
    assert sentence.startswith("error: There is no model 'linear'.")
    assert "One of your own is found with --models-dir DIR." in sentence
    with pytest.raises(UserError, match=r"name the folder that holds linear\.py with --models-dir DIR or \$FLIP"):
        check(LINEAR, MODEL, "model")


def test_a_name_of_ours_is_refused_and_a_module_of_that_name_is_another(folder: Path) -> None:
    for name in ("cnn", "cnn_wide"):  # a model, and a space
        write(folder, f"{name}.yaml", "model: {_target_: own_models.linear.Linear, width: 8, lr: 0.1}\n")
        sentence = refusal_of(folder, "--model", name)
        assert f"{name}.yaml is called like a {'model' if name == 'cnn' else 'space'} of flipsearch's own" in sentence
        assert (
            run_here(
                "--task", "synthetic_one_vs_rest", f"model={name}", "--models-dir", "mine", cwd=folder.parent
            ).refusal()
            == sentence
        )
        (folder / f"{name}.yaml").unlink()
    write(folder, "cnn.py", (folder / "linear.py").read_text())
    own_models.use_folder(folder)
    model = instantiate(check({**LINEAR, "_target_": "own_models.cnn.Linear"}, MODEL, "model"), MODEL, "model")
    assert type(model).__module__ == "own_models.cnn"
    assert (
        check(study_config(["task=synthetic_one_vs_rest", "model=cnn"]).defaults["model"], MODEL, "model")["_target_"]
        == "models.cnn.CNN"
    )


def loose(path: Path, mode: int) -> None:
    path.chmod(path.stat().st_mode | mode)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.with_suffix(".kept"))


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o644)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "group": (lambda folder: loose(folder, 0o020), r"mine is not believed, because others may write it.*: chmod go-w "),
    "everybody": (lambda folder: loose(folder, 0o002), "mine is not believed, because others may write it"),
    "sticky": (lambda folder: loose(folder, 0o1002), "mine is not believed, because others may write it"),
    "above": (lambda folder: loose(folder.parent, 0o002), "is not believed, because others may write it"),
    "module": (lambda folder: loose(folder / "linear.py", 0o020), r"linear\.py is not believed, because others may"),
    "config": (lambda folder: loose(folder / "linear.yaml", 0o002), r"linear\.yaml is not believed, because others"),
    "helper": (lambda folder: loose(folder / "torch.py", 0o002), r"torch\.py is not believed, because others may"),
    "link": (
        lambda folder: replace_by_link(folder / "linear.py"),
        r"linear\.py, in .*cannot be read \(it is a link\)",
    ),
    "fifo": (lambda folder: replace_by_fifo(folder / "linear.py"), r"linear\.py, in the .* \(it is no plain file\)"),
    "letters": (lambda folder: (folder / "linear.py").write_bytes(b"\xff"), r"\(it is not UTF-8 text\)"),
    "large": (lambda folder: (folder / "linear.py").write_text("#" * 2**21), r"\(it has more than 1,048,576 bytes\)"),
    "no yaml": (lambda folder: (folder / "linear.yaml").write_text("model: [\n"), r"linear\.yaml is not valid YAML: "),
    "no model": (
        lambda folder: (folder / "linear.yaml").write_text("width: 3\n"),
        "is not valid: expected `model:` with",
    ),
    "a list": (lambda folder: (folder / "linear.yaml").write_text("[1]\n"), "is not valid: expected `model:` with"),
    "syntax": (lambda folder: (folder / "linear.py").write_text("def ("), r"linear\.py is not valid Python: "),
    "no class": (
        lambda folder: (folder / "linear.py").write_text("x = 1\n"),
        r"not a class defined in own_models\.",
    ),
    "foreign class": (
        lambda folder: (folder / "linear.py").write_text("class Linear: ...\n"),
        r"is not a models\.fitness_model\.FitnessModel: name a class that is one",
    ),
    "no module": (lambda folder: (folder / "linear.py").unlink(), r"there is no module own_models\.linear"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_folder_that_is_not_as_it_should_be_is_refused_in_a_sentence(how: str, folder: Path) -> None:
    break_it, pattern = BROKEN[how]
    break_it(folder)
    assert re.search(pattern, refusal_of(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", [".", "linear.py", "linear.yaml"])
def test_what_belongs_to_another_user_is_refused(name: str, folder: Path) -> None:
    os.chown(folder / name, 12345, -1)
    assert "is not believed, because it belongs to another user" in refusal_of(folder)


def test_a_folder_below_one_like_tmp_is_taken(folder: Path) -> None:
    folder.parent.chmod(0o1777)
    answer = run_here(*SEARCH, "--dry-run", "--models-dir", str(folder), cwd=folder.parent)
    assert answer.status == 0, answer


@pytest.mark.parametrize("named", ["mine", "./mine", "~/mine"])
def test_the_environment_names_a_whole_path(named: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(own_models.VARIABLE, named)
    assert f"$FLIPSEARCH_MODELS={named} is not valid" in run_here(*SEARCH, cwd=folder.parent).refusal()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert (
        "--models-dir nothing cannot be read (No such file or directory)"
        in run_here(*SEARCH, "--models-dir", "nothing", cwd=tmp_path).refusal()
    )
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o644)
    assert "cannot be read (it is no folder)" in run_here(*SEARCH, "--models-dir", "file", cwd=tmp_path).refusal()


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        ("import nothing_like_it\n", r"linear\.py cannot be imported \(ModuleNotFoundError: .*, line 1\): mend it"),
        ("import layers\n", r"linear\.py cannot be imported \(ModuleNotFoundError: No module named 'layers', line 1\)"),
        ("1 / 0\n", r"linear\.py cannot be imported \(ZeroDivisionError: division by zero, line 1\)"),
        ("raise SystemExit(3)\n", r"linear\.py cannot be imported \(SystemExit: 3, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_its_line(source: str, pattern: str, folder: Path) -> None:
    """What lies beside it is imported as a module of own_models alone."""
    write(folder, "layers.py", "")
    write(folder, "linear.py", source + (folder / "linear.py").read_text().replace("from __future__", "#"))
    assert re.search(pattern, refusal_of(folder))


def test_hyperparameters_are_checked_by_their_annotations(folder: Path) -> None:
    assert "model.width=-1 is not valid: expected int >= 1" in refusal_of(folder, "model.width=-1")
    assert "model.depth is not a setting" in refusal_of(folder, "+model.depth=1")


def test_no_experiment_and_no_file_beside_the_work_names_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flipsearch.toml").write_text(f'models_dir = "{folder}"\n')
    (tmp_path / "flipsearch.toml").chmod(0o644)
    assert "flipsearch.toml has a key 'models_dir' that is not known" in run_here("status", cwd=tmp_path).refusal()


@pytest.mark.parametrize("base", [VALIDATION, DIVISION, PRUNER])
def test_the_folder_holds_models_alone(base: str, folder: Path) -> None:
    write(folder, "fold.py", f"from {base.rpartition('.')[0]} import *\nclass Own({base.rpartition('.')[2]}): ...\n")
    own_models.use_folder(folder)
    with pytest.raises(UserError, match="is outside the allowed packages"):
        check({"_target_": "own_models.fold.Own"}, base, "here")


@pytest.mark.parametrize(
    "target",
    [
        "own_models",
        "own_models.linear",
        "own_models.linear.nn.Linear",
        "own_models.linear.Adam",
        "own_models.linear.Tensor",
        "own_models.linear.Linear.forward",
        "own_models.os.system",
        "own_models..linear.Linear",
        "own_models.../mine/linear.Linear",
        "own_models.torch.Linear",
        "own_models.missing.Linear",
        "own_modelsx.linear.Linear",
    ],
)
def test_an_experiment_names_models_of_the_folder_and_nothing_else(target: str, folder: Path) -> None:
    own_models.use_folder(folder)
    with pytest.raises(UserError, match=r"^here\._target_="):
        check({**LINEAR, "_target_": target}, MODEL, "here")
    with pytest.raises((UserError, ImportError, AttributeError)):
        instantiate({**LINEAR, "_target_": target}, MODEL, "here")


def test_an_installed_package_of_that_name_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "own_models"
    package.mkdir(parents=True)
    for name in ("__init__", "linear"):
        (package / f"{name}.py").write_text("raise AssertionError('executed')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    with pytest.raises(UserError):
        instantiate(LINEAR, MODEL, "model")
    own_models.use_folder(make_folder(tmp_path / "mine"))
    assert type(instantiate(LINEAR, MODEL, "model")).__name__ == "Linear"


def test_the_hash_is_of_the_model_and_of_what_it_imports(folder: Path) -> None:
    def hash_now() -> str | None:
        own_models.use_folder(folder)
        return own_models.source_hash(MODEL_NAME)

    first = hash_now()
    write(folder, "other.py", "x = 1\n")
    write(folder, "linear.yaml", (folder / "linear.yaml").read_text().replace("64", "32"))
    assert hash_now() == first
    source = (folder / "linear.py").read_text()
    hashes = [first]
    for words in (
        "from own_models.other import x",
        "from own_models import other",
        "import own_models.other",
        "from .other import x",
    ):
        write(folder, "linear.py", f"{source}\n{words}\n")
        before = hash_now()
        write(folder, "other.py", f"x = {len(hashes) + 1}\n")
        after = hash_now()
        assert before != after, words
        hashes += [before, after]
    assert len(set(hashes)) == len(hashes)
    assert re.fullmatch("sha256:[0-9a-f]{64}", str(first))
    assert own_models.source_hash("models.cnn.CNN") is None


def test_modules_of_the_folder_import_each_other(folder: Path) -> None:
    write(folder, "sizes.py", "from models.bounds import PositiveInt\nWidth = PositiveInt\nBASE = 3\n")
    source = (folder / "linear.py").read_text().replace("width: PositiveInt", "width: Width")
    write(folder, "linear.py", source.replace("class Linear", "from own_models.sizes import Width\n\n\nclass Linear"))
    own_models.use_folder(folder)
    with pytest.raises(UserError, match=r"width=0 is not valid: expected int >= 1"):
        check({**LINEAR, "width": 0}, MODEL, "model")
    assert type(instantiate(LINEAR, MODEL, "model")).__module__ == "own_models.linear"


def test_what_was_read_is_what_runs_whatever_the_files_hold_by_then(folder: Path) -> None:
    """As in a child: the sources come through a pipe, and the files have changed meanwhile."""
    own_models.use_folder(folder)
    models = pickle.loads(pickle.dumps(own_models.in_use()))
    write(folder, "linear.py", "raise AssertionError('read again')\n")
    own_models.use(None)
    own_models.use(models)
    assert type(instantiate(check(LINEAR, MODEL, "model"), MODEL, "model")).__name__ == "Linear"
    assert sys.modules["own_models.linear"].__file__ == str(folder.resolve() / "linear.py")
    assert str(folder) not in sys.path


def test_another_folder_replaces_what_was_imported(folder: Path, tmp_path: Path) -> None:
    own_models.use_folder(folder)
    first = type(instantiate(LINEAR, MODEL, "model"))
    other = make_folder(tmp_path / "other")
    source = (other / "linear.py").read_text()
    write(other, "linear.py", source.replace("width: PositiveInt", "width: PositiveInt, depth: PositiveInt"))
    own_models.use_folder(other)
    with pytest.raises(UserError, match=r"model\.depth is missing"):
        check(LINEAR, MODEL, "model")
    second = type(instantiate(check({**LINEAR, "depth": 1}, MODEL, "model"), MODEL, "model"))
    assert first is not second


def test_a_request_has_the_models_of_its_own_folder(tmp_path: Path) -> None:
    """Whichever folder another request has named since, and what the files held before."""

    def request(name: str, *, models_dir: Path | None) -> search.SearchRequest:
        return search.SearchRequest(
            task="synthetic_two_vs_rest",
            model="mine",
            models_dir=models_dir,
            study_name=name,
            n_trials=1,
            runs_dir=tmp_path / "runs",
            export_dir=tmp_path / "experiments",
            quiet=True,
        )

    def value(asked: search.SearchRequest) -> float:
        best = search.run_study(asked).best
        assert best is not None
        assert best.value is not None
        return best.value

    for name, sign in (("right", 1), ("reversed", -1)):
        source = (
            "from models.ridge import Ridge\n\n\nclass Mine(Ridge):\n    def forward(self, batch):\n        return "
        )
        source += f"{sign} * super().forward(batch)\n"
        write(tmp_path / name, "mine.py", source)
        write(tmp_path / name, "mine.yaml", "model:\n  _target_: own_models.mine.Mine\n  alpha: 1.0\nspace: {}\n")
    first = request("first", models_dir=tmp_path / "right")
    second = request("second", models_dir=tmp_path / "reversed")
    assert value(first) == -value(second) > 0.5
    write(tmp_path / "right", "mine.py", source)
    assert value(request("third", models_dir=tmp_path / "right")) == value(second)
    with pytest.raises(UserError, match="mine"):
        request("fourth", models_dir=None)


def test_checkpoints_of_another_source_are_not_resumed_from(folder: Path) -> None:
    from datasets.splits.prepared import prepare
    from search.config.run_config import task_of
    from search.training.checkpoint.progress import about

    def about_now() -> object:
        own_models.use_folder(folder)
        config: RunConfig = study_config(["task=synthetic_one_vs_rest", "model=linear"]).run({})
        split = prepare(task_of(config), data_dir=None, cache_dir=folder.parent / "cache", announce=lambda text: None)
        return about(config, split, threads=1, backbone=None)

    first = about_now()
    assert about_now() == first
    with (folder / "linear.py").open("a") as file:
        file.write("# a remark\n")
    assert about_now() != first
