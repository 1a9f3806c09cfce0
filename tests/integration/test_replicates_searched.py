"""A search on columns of replicates, from `data check` to predictions."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.answers import run_here
from tests.helpers.tables import variants, write

WORDS = ("--data", "plate.csv", "--replicate-column", "plate A", "--replicate-column", "plate,B")
SEARCH = ("--split", "random", "--model", "ridge", "--n-trials", "1", "trainer.threads=1", "--study-name", "s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replicates")
    noise = np.random.default_rng(0).normal(0, 0.1, size=(len(variants()), 2))
    rows = [
        (sequence, *(f"{value + one:.4f}" for one in own))
        for (_, sequence, value), own in zip(variants(), noise, strict=True)
    ]
    write(folder / "plate.csv", 'sequence,plate A,"plate,B"', rows)
    answer = run_here(*WORDS, *SEARCH, cwd=folder)
    assert answer.status == 0, answer
    return folder


def test_the_command_that_data_check_proposes_names_them(folder: Path) -> None:
    answer = run_here("data", "check", *WORDS[1:], cwd=folder)
    assert answer.status == 0, answer
    assert "the target is the mean of the replicates 'plate A', 'plate,B'" in answer.out
    assert "--replicate-column 'plate A' --replicate-column plate,B" in answer.out
    assert "--target-column" not in answer.out


def test_the_same_command_adds_nothing_and_other_columns_are_another_question(folder: Path) -> None:
    answer = run_here(*WORDS, *SEARCH, cwd=folder)
    assert answer.status == 0, answer
    assert "nothing to do" in answer.err
    other = run_here("--data", "plate.csv", "--target-column", "plate A", *SEARCH, cwd=folder)
    assert other.status == 2, other
    assert "was made with another" in other.err or "is about" in other.err


@pytest.mark.parametrize("is_written_split", [False, True])
def test_it_is_verified_and_predicts_from_the_table_and_from_its_split(is_written_split: bool, folder: Path) -> None:
    data = ("--data", str(next((folder / "runs" / "data").glob("*.csv")))) if is_written_split else ()
    answer = run_here("verify", "studies/experiment/s.yaml", *data, cwd=folder)
    assert answer.status == 0, answer
    words = ("--input", "plate.csv", "--top", "2")
    answer = run_here("predict", "studies/experiment/s.yaml", *words, *data, cwd=folder)
    assert answer.status == 0, answer


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*WORDS, "--target-column", "plate A", *SEARCH), "give one of the two"),
        (("--task", "gb1_one_vs_rest", *WORDS[2:], *SEARCH[2:]), "--replicate-column says how a table is read"),
        (("--data", "plate.csv", "--replicate-column", "plate C", *SEARCH), "has no column 'plate C'"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(words: tuple[str, ...], says: str, folder: Path) -> None:
    answer = run_here(*words, cwd=folder)
    assert answer.status == 2, answer
    assert says in answer.err
    assert answer.err.count("\n") == 1


def test_a_column_that_is_named_twice_does_not_count_in_silence(folder: Path) -> None:
    words = ("--mutation-column", "sequence", "--mutation-column", "plate A")
    answer = run_here("--data", "plate.csv", *words, *SEARCH, cwd=folder)
    assert answer.status == 2, answer
    assert "--mutation-column is given twice" in answer.err


def test_a_replicate_is_no_score(folder: Path) -> None:
    # It agrees with the mean of both less than a column that is refused for its agreement, and tells of test rows.
    for words in ((), ("--allow-derived",)):
        answer = run_here(*WORDS, "--zero-shot-column", "plate A", *SEARCH, "--quiet", *words, cwd=folder)
        assert "'plate A' is a measurement of this table (--replicate-column)" in answer.refusal()
