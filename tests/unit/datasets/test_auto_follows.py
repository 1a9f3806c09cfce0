"""`auto` follows what a split does: positions that train lacks, whole groups, or neither; no target is looked at."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.splits.prepared import PreparedSplit, prepare
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.tasks.synthetic import WILD_TYPE
from datasets.validation.auto import Facts, choose, find_facts, resolve
from datasets.validation.protocols import Holdout, KFold
from tests.helpers.tables import surveyed, write

POSITIONS = range(5, 25)
RESIDUES = "ACDEFGHIKL"


def mutant(*changes: tuple[int, str]) -> str:
    sequence = list(WILD_TYPE)
    for position, residue in changes:
        sequence[position] = residue
    return "".join(sequence)


SINGLES = [
    (position, mutant((position, residue)))
    for position, residue in product(POSITIONS, RESIDUES)
    if WILD_TYPE[position] != residue
]


def split_of(tmp_path: Path, rows: list[tuple[Any, ...]], **how: Any) -> tuple[PreparedSplit, Task]:
    """Rows of position, sequence and, where the file says so, set."""
    header = "position,sequence,fitness" + ",set" * (len(rows[0]) > 2)
    cells = [(row[0], row[1], i % 17, *row[2:]) for i, row in enumerate(rows)]
    path = write(tmp_path / "t.csv", header, cells)
    if "group_column" in how:
        how["group_rule"] = "nearest"
    task = table_task(surveyed(path, wild_type=WILD_TYPE, **how).table, name="t", path=path)
    return prepare(task, data_dir=None, cache_dir=tmp_path / "cache", announce=print), task


def chosen(split: PreparedSplit, task: Task) -> tuple[str, str]:
    """The protocol and what its value stands for, as they are shown."""
    facts = find_facts(split, task)
    found = resolve(facts, split, task)
    return found.shown, "; ".join(filter(None, (found.stands_for, facts.unlike(found))))


def test_by_position(tmp_path: Path) -> None:
    shown = ("by_position of 4", "validated on positions that training lacks")
    assert chosen(*split_of(tmp_path, SINGLES, split="by_position")) == shown


def test_positions_of_the_files_own_test_part(tmp_path: Path) -> None:
    """As TEM-1's `fold_contiguous_5` in a `set` column; the wild type and a stray variant in test change nothing."""
    rows = [(p, s, "test" if p >= 20 else "train") for p, s in SINGLES]
    shown = ("by_position of 4", "validated on positions that training lacks")
    assert chosen(*split_of(tmp_path, rows)) == shown
    stray = [(0, WILD_TYPE, "test"), (0, mutant((5, "W")), "test")]
    assert chosen(*split_of(tmp_path, [*rows, *stray])) == shown
    many = [(0, mutant((p, "W")), "test") for p in POSITIONS if p < 20]
    assert chosen(*split_of(tmp_path, [*rows, *many]))[0] == "kfold of 5"


def test_random_rows(tmp_path: Path) -> None:
    shown = ("kfold of 5", "validated on random rows of the same distribution as training")
    assert chosen(*split_of(tmp_path, SINGLES, split="random")) == shown


def test_groups_come_before_positions(tmp_path: Path) -> None:
    found = chosen(*split_of(tmp_path, SINGLES, split="by_group", group_column="position"))
    assert found == ("by_group of 5", "validated on whole groups that training lacks")


def test_groups_that_test_shares_with_train_say_nothing(tmp_path: Path) -> None:
    rows = [(p, s, "test" if i % 5 == 0 else "train") for i, (p, s) in enumerate(SINGLES)]
    assert chosen(*split_of(tmp_path, rows, group_column="position"))[0] == "kfold of 5"


def test_few_groups_and_few_positions_make_fewer_folds(tmp_path: Path) -> None:
    rows = [(p % 4, s) for p, s in SINGLES]
    assert chosen(*split_of(tmp_path, rows, split="by_group", group_column="position"))[0] == "by_group of 3"
    few = [row for row in SINGLES if row[0] < 9]
    assert chosen(*split_of(tmp_path, few, split="by_position"))[0] == "by_position of 3"


def test_what_the_split_cannot_carry_is_not_chosen_and_that_is_said(tmp_path: Path) -> None:
    """One group is left for train; and one position, so that no other can be held out."""
    rows = [(int(p >= 20), s, "test" if p >= 20 else "train") for p, s in SINGLES]
    found = chosen(*split_of(tmp_path, rows, group_column="position"))
    assert found == ("by_position of 4", "validated on positions that training lacks; test variants belong to groups "
                     "that training lacks")  # fmt: skip
    residues = "ACDEFGHIKLMNPQRSTVWY"
    one = [(p, mutant((5, a), (p, b)), "test") for p in (6, 7) for a, b in product("ACD", "EFG")]
    one += [(5, mutant((5, residue)), "train") for residue in residues if residue != WILD_TYPE[5]]
    one += [(5, WILD_TYPE, "train")]
    shown, words = chosen(*split_of(tmp_path, one))
    assert shown.startswith("kfold of 5")
    assert "test variants are mutated at positions that training lacks and have more mutations" in words


def test_a_shift_by_mutations_at_new_positions_is_both(tmp_path: Path) -> None:
    rows = [(p, s, "train") for p, s in SINGLES if p < 15]
    rows += [(0, mutant((p, "A"), (p + 1, "W")), "test") for p in range(15, 24) for _ in range(1)]
    rows += [(0, mutant((p, "A"), (p + 1, "W"), (5, "Y")), "test") for p in range(15, 24)]
    shown, words = chosen(*split_of(tmp_path, rows))
    assert shown == "by_position of 4, no rise with mutations"
    assert words == "validated on positions that training lacks; test variants have more mutations"


def test_test_targets_are_not_looked_at(tmp_path: Path) -> None:
    split, task = split_of(tmp_path, SINGLES, split="by_position")
    before = find_facts(split, task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.splits.rows.test_targets", None)
        patch.setattr("datasets.splits.held_out.test_targets", None)
        assert find_facts(split, task) == before
    assert before.n_positions == np.any(split.residues != _codes(WILD_TYPE), axis=0).sum()


def _codes(sequence: str) -> Any:
    return np.frombuffer(sequence.encode(), dtype=np.uint8)


@pytest.mark.parametrize("facts", [{}, {"n_groups": 1}, {"n_positions": 1}])
def test_one_group_or_position_is_none(facts: dict[str, int]) -> None:
    known = {"n_train": 400, "n_validation": 100, "n_test": 9, "shift": "none", "mutations": None}
    assert isinstance(choose(Facts(**known, test_mutations=None, **facts)), KFold)  # type: ignore[arg-type]
    known["n_validation"] = 300
    assert isinstance(choose(Facts(**known, test_mutations=None, **facts)), Holdout)  # type: ignore[arg-type]
