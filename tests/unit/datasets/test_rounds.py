"""Rounds of measurement that a table names: how they are read and validated, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tables.survey import flip_blocks, survey
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.validation.auto import Auto
from datasets.validation.folds import folds_of_split
from datasets.validation.mutational_load import WithoutRise
from datasets.validation.rounds import BeforeRound, Rounds
from search.study.protocol import find_protocol
from tests.helpers.tables import surveyed, table, variants, write

ROWS = variants()[::5][:150]


def written(folder: Path, rounds: Any) -> Path:
    cells = [(sequence, f"{value:.4f}", rounds[i % len(rounds)]) for i, (_, sequence, value) in enumerate(ROWS)]
    return write(folder / "t.csv", "sequence,fitness,plate", cells)


def prepared(path: Path, **changes: Any) -> tuple[PreparedSplit, Task]:
    found = surveyed(path, **{"round_column": "plate", "split": "random", **changes})
    task = table_task(found.table, name="t", path=path)
    return prepare(task, data_dir=None, cache_dir=path.parent / "cache", announce=print), task


@pytest.mark.parametrize("names", [["1", "2", "10"], ["1.0", "2.0", "10.0"], ["a", "b", "c"]])
def test_each_round_is_validated_by_those_before_it(tmp_path: Path, names: list[str]) -> None:
    split, task = prepared(written(tmp_path, names))
    assert split.fold is not None
    protocol = Rounds().of(split, task)
    assert protocol.tree["n_rounds"] == 3
    folds = protocol.folds(split, task)
    assert len(folds) == protocol.n_folds_in_all == 2
    for number, fold in enumerate(folds, start=1):
        assert set(split.fold[fold.train]) == set(range(number))
        assert set(split.fold[fold.validation]) == {number}
    assert [split.fold_names.index(name) for name in (name.removesuffix(".0") for name in names)] == [0, 1, 2]


def test_what_was_measured_again_belongs_to_its_first_round(tmp_path: Path) -> None:
    """Controls are measured in every round; the mean of all belongs to the first."""
    path = written(tmp_path, ["3", "2"])
    control = ROWS[0][1]
    with path.open("a") as file:
        file.write(f"{control},5.0,1\n{control},7.0,2\n" + f"{ROWS[1][1]},1.0,1\n")
    found = survey(path, table(path, round_column="plate", split="random"))
    assert not [one for one in found.findings.found if one.level == "refused"]
    assert found.landscape.fold is not None
    fold = dict(zip(found.sequences, found.landscape.fold, strict=True))
    assert [fold[one[1]] for one in ROWS[:4]] == ["1", "1", "3", "2"]


def test_rounds_are_read_again_from_the_written_split(tmp_path: Path) -> None:
    path = written(tmp_path, ["1", "2", "3"])
    found = surveyed(path, round_column="plate", split="random")
    raw = found.raw_split()
    assert found.table.settings["round_column"] == "plate"
    (tmp_path / "split.csv").write_bytes(
        b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation, raw.group, raw.fold))
    )
    again = survey(tmp_path / "split.csv", found.table, is_reread=True).raw_split()
    assert again.content_hash == raw.content_hash
    assert list(again.fold or ()) == list(raw.fold or ())


def test_a_table_without_rounds_is_what_it_was() -> None:
    assert "round_column" not in table(Path("t.csv")).settings


@pytest.mark.parametrize(
    ("names", "changes", "sentence"),
    [
        (["1"], {}, "expected 2 to 1,000: leave --round-column out until a second one is measured, or name"),
        (["1", "2"], {"round_column": "day"}, "--round-column"),
        (["1", "2"], {"fold_column": "plate"}, "table.round_column is not valid beside"),
    ],
)
def test_columns_that_name_no_rounds_are_refused(
    tmp_path: Path, names: list[str], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        prepared(written(tmp_path, names), **changes)
    assert sentence in str(refused.value)


def test_an_empty_round_is_named(tmp_path: Path) -> None:
    found = surveyed(written(tmp_path, ["1", "", "2"]), round_column="plate", split="random")
    (refused,) = [one for one in found.findings.found if one.level == "refused"]
    assert "the round ('plate') is empty" in refused.text


def test_a_split_that_cannot_be_judged_by_rounds_is_refused(tmp_path: Path) -> None:
    split, task = prepared(written(tmp_path, ["1", "2"]))
    assert split.fold is not None
    with pytest.raises(UserError, match=r"validation.n_rounds=5 is not the number of rounds .*, which is 2"):
        Rounds(n_rounds=5).folds(split, task)
    few = np.flatnonzero(split.fold == 1)[:2].tolist() + np.flatnonzero(split.fold == 0).tolist()
    for rows, sentence in ((few, "Round '2' of t has 2 sequences"), (few[2:], "has one round outside")):
        with pytest.raises(UserError, match=sentence):
            Rounds().folds(cut(split, sorted(rows)), task)
    with pytest.raises(UserError, match="names no rounds, which validation=rounds needs"):
        Rounds().folds(cut(split, few, fold=None), task)
    with pytest.raises(ValueError, match="counted"):
        Rounds().n_folds_in_all  # noqa: B018


def cut(split: PreparedSplit, rows: list[int], **changes: Any) -> PreparedSplit:
    assert split.fold is not None
    arrays = {name: getattr(split, name)[rows] for name in ("residues", "lengths", "target", "validation", "fold")}
    return replace(split, **{**arrays, **changes})


def test_what_was_known_before_a_round_is_divided_as_if_nothing_had_come_since(tmp_path: Path) -> None:
    split, task = prepared(written(tmp_path, ["1", "2", "3"]))
    assert split.fold is not None
    folds = BeforeRound(number=2, n_folds=5, seed=0).folds(split, task)
    before = np.flatnonzero(split.fold < 2)
    assert sorted(np.concatenate([fold.validation for fold in folds]).tolist()) == before.tolist()
    for fold in folds:
        assert sorted([*fold.train.tolist(), *fold.validation.tolist()]) == before.tolist()
    again = BeforeRound(number=2, n_folds=5, seed=1).folds(split, task)
    assert [fold.validation.tolist() for fold in again] != [fold.validation.tolist() for fold in folds]
    with pytest.raises(ValueError, match="number is 0"):
        BeforeRound(number=0, n_folds=5, seed=0)


def several(folder: Path) -> Path:
    """Two properties: both in the rounds 1, 2 and 4, `a` alone in 3; every fifth variant has `b` in round 4 only."""
    rows = []
    for i, (_, sequence, value) in enumerate(ROWS):
        name = "1234"[i % 4]
        if name == "3":
            rows.append((sequence, f"{value:.4f}", "", name))
        elif i % 5 == 0 and name != "4":
            rows += [(sequence, f"{value:.4f}", "", name), (sequence, "", f"{value + 1:.4f}", "4")]
        else:
            rows.append((sequence, f"{value:.4f}", f"{i % 13 - value:.4f}", name))
    return write(folder / "several.csv", "sequence,a,b,plate", rows)


def test_a_property_is_known_from_the_round_in_which_it_was_measured(tmp_path: Path) -> None:
    """Another property that was measured before says nothing of it; a round without it is none of its rounds."""
    path = several(tmp_path)
    round_of = {line.split(",")[0]: line.split(",")[3] for line in path.read_text().splitlines()[1:]}
    split, task = prepared(path, target_column="b", properties=("a", "b"))
    names = [row.tobytes().decode().rstrip("\0") for row in split.residues]
    assert split.fold_names == ("1", "2", "4")

    def rounds(rows: Any) -> set[str]:
        return {round_of[names[row]] for row in rows}

    first, last = folds_of_split(Rounds().of(split, task), split, task)
    assert [rounds(one) for one in (first.train, first.validation)] == [{"1"}, {"2"}]
    assert [rounds(one) for one in (last.train, last.validation)] == [{"1", "2"}, {"4"}]
    before = folds_of_split(BeforeRound(number=2, n_folds=5, seed=0), split, task)
    known = {row for fold in before for row in fold.train.tolist()}
    assert known == {row for row, name in enumerate(names) if round_of[name] in "12"}
    # The other property has a row of each variant in its own round.
    other, task = prepared(path, target_column="a", properties=("a", "b"))
    assert Rounds().of(other, task).n_rounds == 4
    wrapped = WithoutRise(protocol=Rounds(n_rounds=3), most=0.1)
    assert len(folds_of_split(wrapped, split, task)) == 2


@pytest.mark.parametrize("properties", [(), ("a", "b")])
def test_auto_validates_rounds_by_those_before_them(properties: tuple[str, ...], tmp_path: Path) -> None:
    split, task = prepared(several(tmp_path), target_column="b", properties=properties)
    tree = Auto().tree
    found = find_protocol(tree, task, split)
    assert found.shown == "auto: rounds 2 to 3"
    assert found.tree == Rounds(n_rounds=3).tree
    assert found.stands_for.startswith(Rounds.stands_for)
    assert split.fold is not None
    few = cut(split, np.flatnonzero(split.fold == 0).tolist(), whole=None)
    with pytest.raises(UserError, match="has one round outside of its test data"):
        find_protocol(tree, task, few)
