"""Several properties of one table: their rows are divided once, and folds are the same for all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.splits.prepared import test_sequences as sequences_of_test
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from datasets.validation.auto import Auto
from datasets.validation.folds import folds_of_split, whole_of
from datasets.validation.given_folds import ByFold
from datasets.validation.grouped import ByGroup
from datasets.validation.protocols import Holdout, KFold, RepeatedKFold, Validation
from datasets.validation.shifted import ByPosition
from tests.helpers.tables import surveyed, table, variants, write

BOTH = ("activity", "stability")
ROWS = variants()[:320]


def missing(row: int, column: str) -> bool:
    return row % 5 == 1 if column == "activity" else row % 7 < 2


def write_table(folder: Path, name: str = "t.csv") -> Path:
    """Two properties, of which rows lack one, the other or both; a group and a fold of each row."""
    rows = []
    for i, (_, sequence, value) in enumerate(ROWS):
        activity = "n.d." if missing(i, "activity") else f"{value:.4f}"
        stability = "" if missing(i, "stability") else f"{i % 13 - value:.4f}"
        rows.append((sequence, activity, stability, "abcdefgh"[i % 8], i % 4))
    return write(folder / name, "sequence,activity,stability,family,cv", rows)


def task_of(path: Path, column: str, **changes: Any) -> Task:
    found = surveyed(path, target_column=column, properties=BOTH, wild_type=WILD_TYPE, **changes)
    return table_task(found.table, name="t", loaded=found)


def split_of(task: Task, folder: Path) -> PreparedSplit:
    return prepare(task, data_dir=None, cache_dir=folder / "cache", announce=lambda sentence: None)


def texts(residues: np.ndarray) -> list[str]:
    return [row.tobytes().decode().rstrip("\0") for row in residues]


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "random"},
        {"split": "two_vs_rest"},
        {"split": "by_position"},
        {"split": "by_group", "group_column": "family", "group_rule": "nearest"},
        {"fold_column": "cv", "test_fold": "2"},
    ],
    ids=str,
)
def test_a_row_is_in_one_part_for_all_properties(changes: dict[str, Any], tmp_path: Path) -> None:
    path = write_table(tmp_path)
    parts: dict[str, dict[str, tuple[bool, bool]]] = {}
    for column in BOTH:
        found = surveyed(path, target_column=column, properties=BOTH, wild_type=WILD_TYPE, **changes)
        assert found.division is not None
        assert list(found.sequences) == [row[1] for i, row in enumerate(ROWS) if not missing(i, column)]
        marks = zip(found.division.test.tolist(), found.division.validation.tolist(), strict=True)
        parts[column] = dict(zip(found.sequences, marks, strict=True))
    both = parts["activity"].keys() & parts["stability"].keys()
    assert len(both) > 150
    assert all(parts["activity"][one] == parts["stability"][one] for one in both)
    assert {test for test, _ in parts["activity"].values()} == {True, False}
    # By itself a property is divided by its own rows.
    if changes.get("split") == "random":
        alone = surveyed(path, target_column="activity", wild_type=WILD_TYPE, **changes)
        assert alone.division is not None
        assert dict(zip(alone.sequences, alone.division.test.tolist(), strict=True)) != {
            one: test for one, (test, _) in parts["activity"].items()
        }


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        (KFold(n_folds=5, seed=0), {"split": "random"}),
        (RepeatedKFold(n_folds=3, n_repeats=2, seed=1), {"split": "random"}),
        (Holdout(), {"split": "random"}),
        (ByPosition(n_folds=2, seed=0), {"split": "random"}),
        (ByGroup(n_folds=3, seed=0), {"split": "random", "group_column": "family", "group_rule": "nearest"}),
        (ByFold(n_folds=3), {"fold_column": "cv", "test_fold": "2"}),
        (Auto(), {"split": "two_vs_rest"}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_row_is_validated_by_one_fold_for_all_properties(
    protocol: Validation, changes: dict[str, Any], tmp_path: Path
) -> None:
    path, found = write_table(tmp_path), {}
    for column in BOTH:
        task = task_of(path, column, **changes)
        split = split_of(task, tmp_path)
        names = texts(split.residues)
        assert len(names) < len(whole_of(split).residues)
        folds = folds_of_split(protocol, split, task)
        found[column] = [{names[row] for row in fold.validation} for fold in folds]
        for fold in folds:
            assert not set(fold.train) & set(fold.validation)
            assert {names[row] for row in fold.train} | {names[row] for row in fold.validation} == set(names)
    lacks = {row[1] for i, row in enumerate(ROWS) if missing(i, "activity") or missing(i, "stability")}
    for one, other in zip(*found.values(), strict=True):
        assert one - lacks == other - lacks
        assert one - lacks


def test_measurements_that_are_all_kept_stay_in_one_fold(tmp_path: Path) -> None:
    """A file with a `set` column keeps every measurement; here each property has a row of its own."""
    rows = [
        (sequence, *values, "test" if i % 5 == 0 else "train")
        for i, (_, sequence, value) in enumerate(ROWS[:60])
        for values in ((f"{value:.4f}", ""), ("", f"{i}"), (f"{value + 0.1:.4f}", f"{i + 0.5}"))
    ]
    path, found = write(tmp_path / "kept.csv", "sequence,activity,stability,set", rows), {}
    for column in BOTH:
        task = task_of(path, column)
        split = split_of(task, tmp_path)
        names = texts(split.residues)
        assert len(names) == 2 * len(set(names)) == 96
        folds = folds_of_split(KFold(n_folds=4, seed=0), split, task)
        assert sorted(row for fold in folds for row in fold.validation.tolist()) == list(range(len(names)))
        assert not any({names[row] for row in fold.train} & {names[row] for row in fold.validation} for fold in folds)
        found[column] = [{names[row] for row in fold.validation} for fold in folds]
    assert found["activity"] == found["stability"]


def test_a_row_is_sealed_for_all_or_for_none(tmp_path: Path) -> None:
    path, test, others = write_table(tmp_path), set(), set()
    for column in BOTH:
        split = split_of(task_of(path, column, split="random"), tmp_path)
        test |= set(texts(sequences_of_test(split)[0]))
        others |= set(texts(split.residues))
    assert test
    assert not test & others


def test_no_target_of_another_property_is_kept(tmp_path: Path) -> None:
    """What stands in the file of all rows is their places."""
    split = split_of(task_of(write_table(tmp_path), "activity", split="random"), tmp_path)
    assert set(whole_of(split).target.tolist()) <= set(range(len(ROWS)))


def test_the_same_question_has_the_same_hash_and_another_row_of_the_others_changes_it(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    first = split_of(task_of(path, "activity", split="random"), tmp_path).data_hash
    assert split_of(task_of(path, "activity", split="random"), tmp_path / "again").data_hash == first
    # The first row that lacks the activity loses its stability: the activity of all others is what it was.
    lines = path.read_text().splitlines()
    at = next(i for i in range(len(ROWS)) if missing(i, "activity") and not missing(i, "stability"))
    cells = lines[at + 1].split(",")
    lines[at + 1] = ",".join([cells[0], cells[1], "", *cells[3:]])
    path.write_text("\n".join(lines) + "\n")
    assert split_of(task_of(path, "activity", split="random"), tmp_path).data_hash != first


def test_a_limit_that_one_property_sets_aside_divides_nothing_anew(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([cells[0], "<0.01", "", *cells[3:]])
    path.write_text("\n".join(lines) + "\n")
    dropped = {one: surveyed(path, target_column=one, properties=BOTH, split="random", censored="drop") for one in BOTH}
    assert ROWS[0][1] not in list(dropped["activity"].sequences)
    assert dropped["stability"].table.censored is None
    parts = []
    for found in dropped.values():
        # As it is read again, by what was recorded.
        again = surveyed(path, **{**found.table.settings, "sites": None})
        assert again.division is not None
        assert found.division is not None
        assert again.division.test.tolist() == found.division.test.tolist()
        parts.append(dict(zip(found.sequences, found.division.test.tolist(), strict=True)))
    assert all(parts[0][one] == parts[1][one] for one in parts[0].keys() & parts[1].keys())


def test_a_fold_with_too_few_rows_of_a_property_is_refused(tmp_path: Path) -> None:
    rows = [(s, f"{v:.4f}", f"{i % 7}" if i % 9 == 0 else "") for i, (_, s, v) in enumerate(ROWS[:150])]
    path = write(tmp_path / "t.csv", "sequence,activity,stability", rows)
    task = task_of(path, "stability", split="random")
    with pytest.raises(UserError, match=r"leaves \d validation sequences to 'stability'.* by itself"):
        folds_of_split(KFold(n_folds=10, seed=0), split_of(task, tmp_path), task)


def test_what_is_wrong_with_rows_of_another_property_is_known(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    lines = path.read_text().splitlines()
    at = next(i for i in range(len(ROWS)) if missing(i, "activity") and not missing(i, "stability"))
    lines[at + 1] = lines[at + 1].removesuffix(f",{at % 4}") + ","
    path.write_text("\n".join(lines) + "\n")
    found = surveyed(path, target_column="activity", properties=BOTH, fold_column="cv", test_fold="1")
    assert ("refused", "the fold ('cv') is empty") in [(one.level, one.text) for one in found.findings.found]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"properties": ("stability", "activity")}, "expected two names or more, in order"),
        ({"properties": ("activity",)}, "expected two names or more"),
        ({"properties": ("activity", "\x1b[2J")}, "expected two names or more"),
        ({"properties": BOTH, "target_column": "other"}, "target_column among them"),
        ({"properties": BOTH, "error_column": "se"}, "not valid"),
        ({"properties": BOTH, "split": "low_vs_high"}, "are divided alike"),
        ({"properties": ("activity", "stabiliti")}, "Did you mean 'stability'"),
    ],
    ids=str,
)
def test_what_several_properties_cannot_be_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = write_table(tmp_path)
    with pytest.raises(UserError, match=sentence):
        surveyed(path, **{"target_column": "activity", **changes})


def test_a_table_of_one_property_is_recorded_as_ever(tmp_path: Path) -> None:
    assert "properties" not in table(tmp_path / "t.csv").settings
    assert table(tmp_path / "t.csv").whole is None
