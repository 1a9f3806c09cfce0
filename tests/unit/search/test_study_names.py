"""A study's name stands for one question: file, target, split and model. Studies of older names are found."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from datasets.tasks.synthetic import WILD_TYPE
from search.options.values import study_name
from search.storage.database import Database, open_database
from search.study.names import default_name, ensemble_name, find_name
from search.study.study import MANIFEST
from tests.helpers.answers import Answer
from tests.helpers.small_study import ABOUT, default_database
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants, write

TABLE = {
    "target_column": "fitness",
    "split": "random",
    "max_train_mutations": None,
    "group_column": None,
    "split_seed": 0,
}


def named(file: str = "my_assay.csv", model: str = "ridge", task: str = "my_assay", **changes: Any) -> str:
    return default_name(task, model, {**TABLE, **changes}, file)


def about(file: str = "my_assay.csv", model: str = "ridge", task: str = "my_assay", **changes: Any) -> dict[str, Any]:
    table = {"wild_type": None, **TABLE, **changes}
    return {**ABOUT, "task": task, "model": model, "data": file, "table": table}


def test_a_name_says_file_target_split_and_model() -> None:
    assert default_name("gb1_two_vs_rest", "cnn", None) == "gb1_two_vs_rest-cnn"
    assert named() == "my_assay-fitness-random-ridge"
    assert named(split="k_vs_rest", max_train_mutations=4) == "my_assay-fitness-k_vs_rest.4-ridge"
    assert (
        named(split="by_group", group_column="cluster", split_seed=3) == "my_assay-fitness-by_group.cluster.seed3-ridge"
    )
    assert named(split=None) == "my_assay-fitness-set-ridge"
    assert named(fold_column="fold_random_5") == "my_assay-fitness-random-fold_random_5-ridge"
    assert named(split=None, fold_column="cv", test_fold="4") == "my_assay-fitness-cv-test4-ridge"
    assert named("my_assay.TSV.gz") == named(), "the same table in another format"
    assert named("my_assay.xlsx", sheet=None) == named(), "the only sheet of a workbook"


def test_different_questions_have_different_names_that_are_fit_for_files() -> None:
    """Names that look alike once they are fit for a file, and parts that could be read as other parts."""
    files = [("my assay.csv", "my_assay"), ("my_assay.csv", "my_assay"), ("a-b.csv", "a-b"), ("a.csv", "a")]
    files += [(f"{'x' * 41}{end}.csv", f"{'x' * 41}{end}") for end in "yz"]
    targets = ["fitness", "log fitness", "log_fitness", "log-fitness", "b-fitness", "ä", "ö", "t" * 50, "t" * 51, "_"]
    splits: list[dict[str, Any]] = [
        {},
        {"split_seed": 3},
        {"split": None},
        {"split": None, "split_seed": 1},
        {"sheet": "seed3"},
        {"sheet": "seed3 "},
        {"split": "k_vs_rest", "max_train_mutations": 1},
        {"split": "one_vs_rest"},
        {"split": "k_vs_rest", "max_train_mutations": 1, "split_seed": 2},
        *({"split": "by_group", "group_column": name} for name in ("g", "g 1", "g_1", "g.1", "g.seed1", "seed1")),
        {"split": "by_group", "group_column": "g", "split_seed": 1},
        *({"fold_column": name} for name in ("f", "f 1", "f_1", "seed3", "random", "set")),
        *({"split": None, "fold_column": name} for name in ("f", "test1", "seed1", "random")),
        *({"split": None, "fold_column": name, "test_fold": "1"} for name in ("f", "f-1", "random", "set", "test1")),
        *({"split": None, "fold_column": "f", "test_fold": k} for k in ("2", "-2", "a b", "a_b", "ä", "ö")),
        {"split": None, "fold_column": "f", "test_fold": "1", "split_seed": 1},
        *({"error_column": name} for name in ("se", "s e", "s_e")),
        *({"censored": name} for name in ("drop", "refuse")),
        *({"replicates": name} for name in ("keep", "refuse")),
        {"stops": "drop"},
        {"stops": "drop", "censored": "drop"},
        {"sheet": "seed3", "error_column": "se"},
        {"split": None, "fold_column": "f", "test_fold": "1", "error_column": "se"},
    ]
    questions = list(itertools.product(files, targets, splits, ("ridge", "cnn")))
    names = [
        default_name(task, model, {**TABLE, "target_column": target, **split}, file)
        for (file, task), target, split, model in questions
    ]
    assert len({name.lower() for name in names}) == len(questions)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) for name in names)
    assert all(study_name(name) == name for name in names)
    again = [default_name(t, m, {**TABLE, "target_column": y, **s}, f) for (f, t), y, s, m in questions]
    assert names == again


LONG = {"task": "my_protein_deep_mutational_scan_2024", "file": "my_protein_deep_mutational_scan_2024.csv"}


@pytest.mark.parametrize("n", [28, 29, 40, 60])
def test_a_name_of_up_to_100_letters_is_whole_and_a_longer_one_ends_in_a_hash(n: int) -> None:
    changes: dict[str, Any] = {**LONG, "split": "by_group", "group_column": "sequence_cluster_at"}
    names = [named(**changes, target_column=f"{'t' * (n - 1)}{end}") for end in "xy"]
    assert len({name.lower() for name in names}) == 2
    assert all(study_name(name) == name and name.endswith("-ridge") for name in names), names
    whole = f"my_protein_deep_mutational_scan_2024-{'t' * (n - 1)}x-by_group.sequence_cluster_at-ridge"
    assert (names[0] == whole) == (len(whole) <= 100) == (n == 28)


@pytest.mark.parametrize("n", [10, 35, 70])
def test_the_ensemble_of_each_fold_has_a_name_of_its_own(n: int) -> None:
    """However long what is before the fold."""
    studies = [f"{'x' * n}-fitness-sequence_cluster-test{fold}" for fold in range(5)]
    names = [ensemble_name(f"{study}-ridge", "ridge") for study in studies]
    assert len(set(names)) == 5
    assert all(study_name(name) == name for name in names)
    assert (n == 70) or names == [f"{study}-ensemble" for study in studies]


def test_how_rows_are_usually_read_is_in_no_name() -> None:
    assert named(replicates="mean", censored=None, stops=None, error_column=None) == named()
    assert named(split=None, replicates="keep") == named(split=None)
    assert named(split=None, fold_column="f", test_fold="1", replicates="mean") == named(
        split=None, fold_column="f", test_fold="1"
    )
    assert named(error_column="se").startswith("my_assay-fitness-random.error_column_se+")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    (tmp_path / "runs").mkdir()
    return open_database(default_database(tmp_path), create=True)


def studied(database: Database, name: str, manifest: dict[str, Any]) -> None:
    study = optuna.create_study(storage=database.storage, study_name=name, direction="maximize")
    study.set_user_attr(MANIFEST, manifest)


def test_a_study_of_the_older_name_is_found_by_its_question_alone(database: Database) -> None:
    new = "my_assay-fitness-random-ridge"
    assert find_name(None, about()) == find_name(database, about()) == new
    studied(database, "my_assay-ridge", about())
    assert find_name(database, about()) == "my_assay-ridge"
    for other in (
        about(target_column="stability"),
        about(split="by_position"),
        about(split_seed=1),
        about(split="by_group", group_column="g"),
        about("my assay.csv"),
    ):
        assert find_name(database, other) == default_name("my_assay", "ridge", other["table"], other["data"]) != new
    # Its settings are for `open_study` to compare, which names what differs.
    assert find_name(database, {**about(), "config": {"trainer.max_epochs": 99}}) == "my_assay-ridge"
    studied(database, new, about())
    assert find_name(database, about()) == new


def test_a_task_that_is_called_as_a_file_is_not_the_file(database: Database) -> None:
    studied(database, "my_assay-ridge", {**ABOUT, "task": "my_assay"})
    assert find_name(database, about()) == "my_assay-fitness-random-ridge"
    assert find_name(database, {**ABOUT, "task": "my_assay"}) == "my_assay-ridge"


WORDS = ("--data", "rq.csv", "--wild-type", "wt.fasta", "--n-trials", "2", "trainer.threads=1", "validation=holdout")
BOTH = ("--model", "ridge", "--model", "kernel")
FITNESS = ("--target-column", "fitness", "--split", "random")
STABILITY = ("--target-column", "stability", "--split", "random")
BY_GROUP = ("--target-column", "fitness", "--split", "by_group", "--group-column", "half")


def write_table(folder: Path) -> None:
    """240 variants, two targets and five groups."""
    rows = [
        (text, f"{value:.6f}", f"{value + i * 37 % 11:.6f}", str(i % 5))
        for i, (text, _, value) in enumerate(variants()[:240])
    ]
    write(folder / "rq.csv", "mutant,fitness,stability,half", rows)
    (folder / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> tuple[Path, Answer]:
    """A ladder of two families on one question."""
    folder = tmp_path_factory.mktemp("questions")
    write_table(folder)
    answer = here(*WORDS, *BOTH, *FITNESS, cwd=folder)
    assert answer.status == 0, answer
    return folder, answer


def values(answer: Answer) -> list[list[str]]:
    """Model and validation Spearman of the searched families in a ladder's table."""
    rows = [line.split() for line in answer.out.partition("Ladder on")[2].splitlines()]
    return [[row[0], row[2]] for row in rows if row and row[0] in ("ridge", "kernel")]


@pytest.mark.parametrize("question", [BY_GROUP, STABILITY], ids=["split", "target"])
@pytest.mark.system
def test_the_ladder_prints_the_table_of_the_question_that_was_asked(
    searched: tuple[Path, Answer], here: Program, question: tuple[str, ...]
) -> None:
    folder, before = searched
    answer = here(*WORDS, *BOTH, *question, cwd=folder)
    assert answer.status == 0, answer
    target, split = question[1], question[3]
    words = f"{split} of half" if split == "by_group" else split
    assert f"Ladder on rq, target {target}, split {words} (validation: holdout; rq.csv)" in answer.out
    assert "Ladder on rq, target fitness, split random" in before.out
    assert values(answer) != values(before)
    shown = f"rq-{target}-{split}{'.half' if split == 'by_group' else ''}"
    for model in ("ridge", "kernel"):
        assert f"{model}: study {shown}-{model}" in answer.err
        assert f"studies/experiment/{shown}-{model}.yaml" in answer.out.partition("These are validation results")[2]
        assert f"predict studies/experiment/{shown}-{model}.yaml" in answer.out
    status = here("status", cwd=folder).out
    assert f"{shown}-ridge " in status
    assert "rq-fitness-random-ridge " in status


@pytest.mark.slow
def test_a_refused_study_ends_the_ladder_before_anything_is_searched(
    searched: tuple[Path, Answer], here: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(searched[0], folder)
    for words in (("validation=kfold",), ("sampler=random",)):
        answer = here(*WORDS[:-1], *FITNESS, "--model", "cnn", *BOTH, *words, cwd=folder)
        assert (answer.status, answer.out) == (2, ""), answer
        assert "error: Study 'rq-fitness-random-ridge' was made with another configuration" in answer.err
        assert "cnn" not in here("status", cwd=folder).out, "the families before it were not searched either"
    lines = (folder / "rq.csv").read_text(encoding="utf-8").splitlines()
    (folder / "rq.csv").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    refused = here(*WORDS, *FITNESS, "--model", "ridge", cwd=folder).err
    assert "Study 'rq-fitness-random-ridge' was made with other data (data_hash: \"" in refused
    assert refused.endswith("choose another --study-name, or give it the table that it had.\n")


@pytest.mark.system
def test_the_ladder_takes_what_the_names_of_its_studies_begin_with(
    searched: tuple[Path, Answer], here: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(searched[0], folder)
    mine = (*BOTH, *FITNESS, "--study-name", "mine", "validation=kfold")
    answer = here(*WORDS[:-1], *mine, cwd=folder)
    assert answer.status == 0, answer
    assert {path.stem for path in (folder / "studies" / "experiment").glob("mine*.yaml")} == {
        "mine-ridge",
        "mine-kernel",
        "mine-ensemble",
    }
    again = here(*WORDS[:-1], *mine, cwd=folder)
    assert again.err.count("nothing to do") == 2
    dry = here(*WORDS[:-1], *mine, "--dry-run", cwd=folder)
    assert "# study mine-ridge:" in dry.out
    assert "# study mine-kernel:" in dry.out


@pytest.mark.system
def test_a_study_of_the_older_name_goes_on_under_it_and_so_does_its_export(
    searched: tuple[Path, Answer], here: Program, tmp_path: Path
) -> None:
    """As an earlier version left it: its names had no target and no split."""
    folder = tmp_path / "copy"
    shutil.copytree(searched[0], folder)
    for path in (folder / "runs", folder / "studies" / "experiment"):
        shutil.rmtree(path)
    ridge = (*WORDS, *FITNESS, "--model", "ridge", "--study-name", "rq-ridge")
    assert here(*ridge, cwd=folder).status == 0
    unnamed = ridge[:-2]
    answer = here(*unnamed, cwd=folder)
    assert answer.status == 0, answer
    assert "Study rq-ridge has 2 finished trials" in answer.err
    assert "Exported: studies/experiment/rq-ridge.yaml" in answer.out
    assert "# study rq-ridge:" in here(*unnamed, "--dry-run", cwd=folder).out
    page = folder / "r.html"
    assert here("report", "--study-name", "rq-ridge", "--output", str(page), cwd=folder).status == 0
    assert "--study-name rq-ridge" in page.read_text(encoding="utf-8")
    # Another question has a study of its own, beside it.
    other = here(*WORDS, *STABILITY, "--model", "ridge", cwd=folder)
    assert "Exported: studies/experiment/rq-stability-random-ridge.yaml" in other.out
    # And the ladder finds the one and begins the other.
    both = here(*WORDS, *FITNESS, *BOTH, cwd=folder)
    assert both.status == 0, both
    assert "ridge: study rq-ridge\n" in both.err
    assert "kernel: study rq-fitness-random-kernel\n" in both.err


def test_a_study_whose_name_did_not_say_how_its_rows_are_read_goes_on(database: Database) -> None:
    """It is found by those who read them alike, and others get a name of their own."""
    short = "my_assay-fitness-random-ridge"
    studied(database, short, about(error_column="se"))
    assert find_name(database, about(error_column="se")) == short
    others = [find_name(database, about(**how)) for how in ({"error_column": "sd"}, {"censored": "drop"})]
    assert len({*others, short}) == 3
    studied(database, named(error_column="se"), about(error_column="se"))
    assert find_name(database, about(error_column="se")) == named(error_column="se")
