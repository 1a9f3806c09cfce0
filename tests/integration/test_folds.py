"""Tables with folds, as benchmarks are published: one fold for test, or each in turn, and the figure over all."""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import yaml

from search.storage.url import default_url
from tests.helpers.answers import Answer
from tests.helpers.tables import variants, write

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
