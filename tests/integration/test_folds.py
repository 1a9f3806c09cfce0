"""Tables with folds, as benchmarks are published: one fold for test, or each in turn, and the figure over all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from datasets.common.errors import UserError
from datasets.splits.prepared import prepare
from datasets.tasks.own_table import table_task
from search.experiments.confirm.all_folds import folds_of
from search.request.search_request import SearchRequest
from search.storage.url import default_url
from tests.helpers.answers import Answer
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import surveyed, variants, write

Command = Callable[..., Answer]
WORDS = ("--data", "t.csv", "--export-dir", "exported", "--model", "ridge", "trainer.threads=1", "logger=none")
FOLDS = ("--fold-column", "fold_random_3")
ALL = (*WORDS, *FOLDS, "--test-fold", "all", "--n-trials", "1")


def write_table(folder: Path) -> Path:
    rows = [(s, f"{v:.4f}", i % 3, "uvwx"[i % 4]) for i, (_, s, v) in enumerate(variants()[::7][:150])]
    return write(folder / "t.csv", "sequence,fitness,fold_random_3,quarter", rows)


def names(folder: Path) -> list[str]:
    return optuna.get_all_study_names(default_url(folder / "runs"))


def test_one_fold_is_sealed_and_the_others_judge(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    answer = command(*WORDS, *FOLDS, "--test-fold", "1", "--n-trials", "1")
    assert answer.status == 0, answer
    name = "t-fitness-fold_random_3-test1-ridge"
    assert names(tmp_path) == [name]
    assert "100 train" not in answer.err
    assert "50 train, 50 validation and 50 test (test is fold 1 of 'fold_random_3')" in answer.err
    assert "(auto: by_fold of 2, 100 sequences; t.csv)" in answer.out
    assert "Validated on the folds that the table names." in answer.out
    export = tmp_path / "exported" / f"{name}.yaml"
    table = yaml.safe_load(export.read_text())["table"]
    assert (table["fold_column"], table["test_fold"]) == ("fold_random_3", "1")
    (written,) = (tmp_path / "runs" / "data").glob("t-fold_random_3-test1-*.csv")
    assert command("verify", str(export), "--data", str(written)).status == 0
    (now,) = json.loads(command("status", "--json").out)
    assert now["split"] == "fold_random_3, test fold 1"


def test_folds_of_a_file_with_a_set_column_judge_and_are_found_again(tmp_path: Path, command: Command) -> None:
    lines = [line.split(",") for line in write_table(tmp_path).read_text().splitlines()[1:]]
    rows = [(*row[:2], "test" if row[3] == "x" else "train", "", row[2], 0) for row in lines]
    write(tmp_path / "t.csv", "sequence,target,set,validation,cv,fold", rows)
    answer = command(*WORDS, "--fold-column", "cv", "--n-trials", "1")
    assert answer.status == 0, answer
    assert "auto: by_fold of 3, " in answer.out
    assert names(tmp_path) == ["t-target-set-cv-ridge"]
    assert command("verify", "exported/t-target-set-cv-ridge.yaml").status == 0


def test_what_contradicts_itself_is_refused(tmp_path: Path, command: Command) -> None:
    rows = [line.split(",") for line in write_table(tmp_path).read_text().splitlines()[1:]]
    write(
        tmp_path / "set.csv",
        "sequence,fitness,cv,set",
        [(*row[:3], "test" if row[2] == "0" else "train") for row in rows],
    )
    for words, sentence in (
        (("--test-fold", "1"), "--test-fold K is a fold of --fold-column NAME"),
        ((*FOLDS, "--test-fold", "1", "--split", "random"), "both say what is test"),
        (("--data", "set.csv", "--fold-column", "cv", "--test-fold", "1"), "leave --test-fold out"),
        ((*FOLDS, "--split", "random", "validation=by_fold"), "which is 3: leave validation out"),
        (FOLDS, "or a fold with --test-fold"),
        (("--fold-column", "fold_random_5", "--split", "random"), "has no column 'fold_random_5' (--fold-column)"),
    ):
        assert sentence in command(*WORDS, *words, "--quiet", "--n-trials", "1").refusal()
    assert "takes one fold" in command("train", *WORDS[:2], "--model", "ridge", *FOLDS, "--test-fold", "all").refusal()


def test_data_check_says_what_folds_there_are(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    assert "folds         named by 'fold_random_3', it seems" in command("data", "check", "t.csv").out
    answer = command("data", "check", "t.csv", *FOLDS)
    assert "folds         'fold_random_3': 0: 50, 1: 50, 2: 50" in answer.out
    assert "--data t.csv --test-fold all --fold-column fold_random_3 --model ridge" in answer.out
    answer = command("data", "check", "t.csv", *FOLDS, "--test-fold", "2")
    assert "split: 50 train, 50 validation, 50 test (test is fold 2 of 'fold_random_3')" in answer.out
    assert "--data t.csv --test-fold 2 --fold-column fold_random_3" in answer.out


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> tuple[Path, Answer]:
    folder = tmp_path_factory.mktemp("folds")
    write_table(folder)
    return folder, here(*ALL, cwd=folder)


def experiments(folder: Path) -> list[str]:
    return [f"exported/t-fitness-fold_random_3-test{fold}-ridge.yaml" for fold in range(3)]


def test_each_fold_has_a_study_and_the_same_command_adds_nothing(searched: tuple[Path, Answer], here: Program) -> None:
    folder, answer = searched
    assert answer.status == 0, answer
    assert sorted(names(folder)) == [f"t-fitness-fold_random_3-test{fold}-ridge" for fold in range(3)]
    rows = answer.out.partition("fold  study")[2].splitlines()[1:4]
    assert [(row.split()[0], row.split()[2], row.split()[-1]) for row in rows] == [
        (str(fold), "1", name) for fold, name in enumerate(experiments(folder))
    ]
    assert f"confirm --all-folds {' '.join(experiments(folder))}" in answer.out
    again = here(*ALL, cwd=folder)
    assert again.err.count("nothing to do") == 3
    assert again.out.partition("fold  study")[2] == answer.out.partition("fold  study")[2]
    # One fold alone is the same study.
    one = here(*WORDS, *FOLDS, "--test-fold", "2", "--n-trials", "1", cwd=folder)
    assert "nothing to do" in one.err
    assert len(names(folder)) == 3


@pytest.mark.slow
def test_all_folds_are_confirmed_to_their_mean(searched: tuple[Path, Answer], here: Program) -> None:
    folder = searched[0]
    confirm = ("confirm", "--all-folds", *reversed(experiments(folder)), "--seeds", "1")
    answer = here(*confirm, "--json", cwd=folder)
    assert answer.status == 0, answer
    found = json.loads(answer.out)
    assert [fold["fold"] for fold in found["folds"]] == ["0", "1", "2"]
    assert (found["fold_column"], found["n_folds"], found["n_test"]) == ("fold_random_3", 3, 150)
    values = [fold["test"]["spearman"]["mean"] for fold in found["folds"]]
    assert found["mean"]["spearman"] == pytest.approx(sum(values) / 3)
    assert len(set(values)) == 3
    ledgers = [(folder / name).with_suffix(".ledger.jsonl").read_text() for name in experiments(folder)]
    assert [ledger.count("\n") for ledger in ledgers] == [1, 1, 1]
    answer = here(*confirm, cwd=folder)
    table = answer.out.partition("All folds of 'fold_random_3': t, target fitness (t.csv), ridge, 1 seed\n")[2]
    assert [f"{value:.4f}" for value in values] == [row.split()[3] for row in table.splitlines()[1:4]]
    assert f"Mean test Spearman over 3 folds: {sum(values) / 3:.4f} (± " in table


def test_folds_that_make_no_benchmark_are_refused_before_anything_is_read(
    searched: tuple[Path, Answer], tmp_path: Path, here: Program
) -> None:
    folder = searched[0]
    own = tmp_path / "own"
    own.mkdir()
    for path in [folder / "t.csv", *(folder / name for name in experiments(folder))]:
        shutil.copy(path, own)
    a, b, c = (Path(name).name for name in experiments(folder))
    lines = (own / "t.csv").read_text().splitlines()
    (own / "other.csv").write_text("\n".join([*lines[:-1], lines[-1].replace(",0.", ",1.")]) + "\n")
    search = ("--model", "ridge", "--n-trials", "1", "trainer.threads=1", "--export-dir", ".", "--quiet")
    assert here("--data", "t.csv", "--split", "random", *search, "--study-name", "random", cwd=own).status == 0
    other = ("--data", "t.csv", "--fold-column", "quarter", "--test-fold", "w", "--study-name", "quarter")
    assert here(*other, *search, cwd=own).status == 0
    changed = ("--data", "other.csv", *FOLDS, "--test-fold", "2", "--study-name", "changed")
    assert here(*changed, *search, cwd=own).status == 0
    for given, sentence in (
        ([a], "No experiment is given for fold 1, 2 of 'fold_random_3', and those of other folds have seen its rows"),
        ([a, c], "No experiment is given for fold 1 of 'fold_random_3'"),
        ([a, b, a], f"{a} is given twice: each fold needs one experiment of a search that was sealed from it"),
        ([a, b, "random.yaml"], "random.yaml was not searched with a fold for test"),
        ([a, b, "quarter.yaml"], "quarter.yaml is not of the same question as"),
        ([a, b, "changed.yaml"], "changed.yaml is of another table than"),
        ([a, b, c, "changed.yaml"], "changed.yaml is of another table than"),
    ):
        assert sentence in here("confirm", "--all-folds", *given, "--quiet", cwd=own).refusal()
    assert "leave one of them out" in here("confirm", "--all-folds", a, b, c, "--top-k", "2", cwd=own).refusal()
    assert list(own.glob("*.ledger.jsonl")) == []


def test_a_reading_of_a_fold_notes_how_the_table_is_read(tmp_path: Path) -> None:
    path = write_table(tmp_path)

    def noted(fold: str, **changes: Any) -> Any:
        found = surveyed(path, fold_column="fold_random_3", test_fold=fold, **changes)
        task = table_task(found.table, name="t", loaded=found)
        return folds_of(task, prepare(task, data_dir=None, cache_dir=tmp_path, announce=print))["settings_hash"]

    assert noted("0") == noted("1") != noted("0", replicates="keep")


@pytest.mark.slow
def test_several_families_have_a_study_for_each_fold_and_names_of_their_own(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    ladder = (*WORDS[:4], *FOLDS, "--test-fold", "all", "--model", "ridge", "--model", "kernel", "--no-ensemble")
    answer = command(*ladder, "--n-trials", "1", "--study-name", "mine", "trainer.threads=1")
    assert answer.status == 0, answer
    assert sorted(names(tmp_path)) == sorted(f"mine-test{k}-{m}" for k in range(3) for m in ("ridge", "kernel"))
    assert answer.out.count("Ladder on t, target fitness, split fold_random_3, test fold") == 3
    assert "Mean validation Spearman of kernel over 3 folds: " in answer.out
    confirm = answer.out.partition("Mean validation Spearman of ridge")[2].partition("Next: ")[2].splitlines()[0]
    assert confirm.split("confirm --all-folds ")[1].split() == [f"exported/mine-test{k}-ridge.yaml" for k in range(3)]


def test_a_search_from_python_is_of_one_fold() -> None:
    with pytest.raises(UserError, match="name one fold for each search"):
        SearchRequest(data=Path("t.csv"), model="ridge", fold_column="cv", test_fold="all")
