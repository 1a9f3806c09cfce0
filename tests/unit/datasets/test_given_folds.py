"""Folds that a table names: how they are read, divided and validated, and what is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tables.flip_format import flip_blocks
from datasets.tables.parts import in_order
from datasets.tables.survey import Survey, survey
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from datasets.validation.auto import find_facts, resolve
from datasets.validation.given_folds import ByFold
from tests.helpers.tables import surveyed, table, variants, write

ROWS = variants()[::5][:150]


def written(folder: Path, names: Any, *, rows: Any = ROWS, name: str = "t.csv") -> Path:
    cells = [(sequence, f"{value:.4f}", names[i % len(names)]) for i, (_, sequence, value) in enumerate(rows)]
    return write(folder / name, "sequence,fitness,cv", cells)


def prepared(found: Survey, path: Path, folder: Path) -> tuple[PreparedSplit, Task]:
    task = table_task(found.table, name="t", path=path)
    return prepare(task, data_dir=None, cache_dir=folder / "cache", announce=print), task


def chosen(split: PreparedSplit, task: Task) -> tuple[str, str]:
    facts = find_facts(split, task)
    found = resolve(facts, split, task)
    return found.shown, "; ".join(filter(None, (found.stands_for, facts.unlike(found))))


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["2.0", "0.0", "1.0"], ("0", "1", "2")),
        (["right", "left", "7", "1.5"], ("7", "1.5", "left", "right")),
        ([" a ", "b", "ä"], ("a", "b", "ä")),
    ],
)
def test_names_of_folds_are_read_and_ordered(tmp_path: Path, names: list[str], order: tuple[str, ...]) -> None:
    found = surveyed(written(tmp_path, names), fold_column="cv", split="random")
    assert found.landscape.fold is not None
    assert in_order(found.landscape.fold) == order
    assert not [one for one in found.findings.found if one.level == "refused"]


def test_one_fold_is_test_the_next_validation_and_the_others_are_validated_in_turn(tmp_path: Path) -> None:
    path = written(tmp_path, "01234")
    found = surveyed(path, fold_column="cv", test_fold="4")
    raw = found.raw_split()
    assert raw.fold is not None
    parts = Counter(zip(raw.fold, raw.part, raw.validation, strict=True))
    assert set(parts) == {("0", "train", "True"), *((k, "train", "") for k in "123"), ("4", "test", "")}
    split, task = prepared(found, path, tmp_path)
    assert split.fold is not None
    assert split.fold_names == ("0", "1", "2", "3", "4")
    assert set(split.fold.tolist()) == {0, 1, 2, 3}
    assert chosen(split, task) == ("by_fold of 4", "validated on the folds that the table names")
    folds = ByFold(n_folds=4).folds(split, task)
    assert [set(split.fold[fold.validation].tolist()) for fold in folds] == [{0}, {1}, {2}, {3}]
    assert all(len(fold.train) + len(fold.validation) == len(split.fold) for fold in folds)


def test_folds_beside_a_split_are_those_of_what_is_not_test(tmp_path: Path) -> None:
    path = written(tmp_path, "abc")
    split, task = prepared(surveyed(path, wild_type=WILD_TYPE, fold_column="cv", split="two_vs_rest"), path, tmp_path)
    shown, words = chosen(split, task)
    assert shown == "by_fold of 3, no rise with mutations"
    assert words == "validated on the folds that the table names; test variants have more mutations"


def test_of_two_folds_one_is_left_and_is_divided_as_usual(tmp_path: Path) -> None:
    path = written(tmp_path, "ab")
    found = surveyed(path, fold_column="cv", test_fold="b")
    assert found.division is not None
    assert found.division.how == "test is fold b of 'cv', validation at random"
    assert chosen(*prepared(found, path, tmp_path))[0] == "kfold of 5"


def test_folds_of_positions_are_what_test_asks_for_and_random_folds_are_not(tmp_path: Path) -> None:
    rows = [
        (position, WILD_TYPE[:position] + residue + WILD_TYPE[position + 1 :])
        for position in range(5, 25)
        for residue in "ACDEFGHIKL"
        if residue != WILD_TYPE[position]
    ]
    cells = [(s, i % 17, (p - 5) // 4, i % 5) for i, (p, s) in enumerate(rows)]
    path = write(tmp_path / "t.csv", "sequence,fitness,contiguous,random", cells)
    about = {"wild_type": WILD_TYPE}
    apart = prepared(surveyed(path, **about, fold_column="contiguous", test_fold="4"), path, tmp_path)
    assert chosen(*apart) == ("by_fold of 4", "validated on the folds that the table names")
    mixed = prepared(surveyed(path, **about, fold_column="random", split="by_position"), path, tmp_path)
    assert chosen(*mixed)[1].endswith("test variants are mutated at positions that training lacks")


def test_the_written_split_is_read_again_as_the_same(tmp_path: Path) -> None:
    names = ('"a,b"', "c", "d")
    cells = [(sequence, f"{value:.4f}", names[i % 3]) for i, (_, sequence, value) in enumerate(ROWS)]
    path = write(tmp_path / "odd.csv", "sequence,fitness,cv", cells)
    found = surveyed(path, fold_column="cv", test_fold="a,b")
    raw = found.raw_split()
    again = tmp_path / "again.csv"
    blocks = flip_blocks(raw.sequence, raw.target, raw.part, raw.validation, raw.group, raw.fold)
    again.write_bytes(b"".join(blocks))
    second = survey(again, found.table, is_reread=True).raw_split()
    assert second.content_hash == raw.content_hash
    assert second.fold == raw.fold


@pytest.mark.parametrize(
    ("names", "how", "sentence"),
    [
        (["0", "1", ""], {}, "line 4: the fold ('cv') is empty"),
        (["0", "1", "n.d."], {}, "line 4: the fold ('cv') is empty"),
        (["0", "1", "x" * 31], {}, "is no whole number and no short name"),
        (["0", "1", "a\x1b[2J"], {}, "is no whole number and no short name"),
        (["0", "1", "All"], {}, "but not 'all'"),
        (["0"], {}, "names 1 fold in 'cv' (--fold-column), expected 2 to 1,000"),
        (["0", "1"], {"split": None, "test_fold": "2"}, "has no fold '2' in 'cv' (--test-fold); its folds are 0, 1."),
    ],
)
def test_what_is_no_fold_is_refused(tmp_path: Path, names: list[str], how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        surveyed(written(tmp_path, names), **{"fold_column": "cv", "split": "random", **how}).raw_split()
    assert sentence in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_more_folds_than_anybody_trains_are_refused(tmp_path: Path) -> None:
    rows = [
        ("", "ACDEFGHIKL"[i % 10] + "ACDEFGHIKL"[i // 10 % 10] + "ACDEFGHIKL"[i // 100 % 10], i) for i in range(1000)
    ]
    rows.append(("", "WWW", 3))
    with pytest.raises(UserError, match="names 1,001 folds"):
        surveyed(written(tmp_path, list(map(str, range(1001))), rows=rows), fold_column="cv", split="random")


def test_a_sequence_in_two_folds_is_refused_and_replicates_in_one_are_merged(tmp_path: Path) -> None:
    twice = [row for row in ROWS for _ in range(2)]
    path = written(tmp_path, "0011", rows=twice)
    found = surveyed(path, fold_column="cv", test_fold="1")
    assert len(found.raw_split().sequence) == len(ROWS)
    path = written(tmp_path, "01", rows=twice)
    for how in ({"test_fold": "1"}, {"split": "random"}):
        with pytest.raises(UserError, match=r"line 3: the sequence stands in another fold \('cv'\) too"):
            surveyed(path, fold_column="cv", **how).raw_split()


def test_rows_without_a_measurement_need_no_fold(tmp_path: Path) -> None:
    cells = [(s, "" if i == 3 else i, "" if i == 3 else i % 3) for i, (_, s, _) in enumerate(ROWS)]
    path = write(tmp_path / "t.csv", "sequence,fitness,cv", cells)
    assert len(surveyed(path, fold_column="cv", test_fold="0").raw_split().sequence) == len(ROWS) - 1


def test_folds_that_are_too_small_are_refused_and_not_put_aside(tmp_path: Path) -> None:
    path = written(tmp_path, ["a"] * 70 + ["b"] * 70 + ["c"] * 8 + ["d"] * 2)
    split, task = prepared(surveyed(path, fold_column="cv", test_fold="a"), path, tmp_path)
    with pytest.raises(UserError, match="by_fold of 3 leaves 2 validation sequences"):
        chosen(split, task)
    with pytest.raises(UserError, match="outside of its test data, which is 3"):
        ByFold(n_folds=4).folds(split, task)


def test_a_table_without_folds_is_recorded_as_ever() -> None:
    plain = table(Path("t.csv"))
    assert not {"fold_column", "test_fold", "group_rule"} & {*plain.settings, *plain.recorded}
    folds = table(Path("t.csv"), fold_column="cv", test_fold="1")
    assert Table(**folds.recorded) == folds
    assert folds.settings["test_fold"] == "1"
    for wrong in ({"test_fold": "1"}, {"fold_column": "cv", "test_fold": "1", "split": "random"}):
        with pytest.raises(UserError, match=r"table\.test_fold is not valid"):
            table(Path("t.csv"), **wrong)
    for name in ("fold_column", "test_fold"):
        with pytest.raises(UserError, match=rf"table\.{name}='a\\x1b' is not valid"):
            table(Path("t.csv"), **{"fold_column": "cv", "test_fold": "1", name: "a\x1b"})


def test_a_split_without_folds_has_none(tmp_path: Path) -> None:
    path = written(tmp_path, "01")
    found = surveyed(path, split="random")
    split, task = prepared(found, path, tmp_path)
    assert (split.fold, split.fold_names) == (None, ())
    assert b"fold" not in next(iter(flip_blocks([], [], [], [])))
    with pytest.raises(UserError, match="names no folds"):
        ByFold(n_folds=2).folds(split, task)
    assert np.isfinite(split.target).all()
