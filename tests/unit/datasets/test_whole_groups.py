"""Splits and folds of whole groups: how near they come to the sizes wanted, and what is kept of earlier ones."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits import prepared as files
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tables.flip_format import flip_blocks
from datasets.tables.split_strategies import Landscape, TableSplit, divide
from datasets.tables.survey import Survey
from datasets.tables.whole_groups import choose_groups
from datasets.tasks.own_table import table_task
from datasets.validation.grouped import ByGroup
from tests.helpers.tables import surveyed, variants, write

VARIANTS = variants()


def landscape(sizes: list[int]) -> Landscape:
    group = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    target = np.random.default_rng(0).normal(size=len(group))
    return Landscape(target=target, n_mutations=None, mutated=None, positions=None, group=group)


def divided(sizes: list[int], seed: int = 0) -> TableSplit:
    return divide(landscape(sizes), "by_group", max_train_mutations=None, seed=seed)


def nearest(sizes: list[int], wanted: float, least: int, most: int) -> float:
    """How near the sum of any groups comes, by trying all of them."""
    every = [sum(some) for n in range(len(sizes) + 1) for some in combinations(sizes, n)]
    return min((abs(n - wanted) for n in every if least <= n <= most), default=np.inf)


@pytest.mark.parametrize("number", range(300))
def test_groups_come_as_near_as_any_do(number: int) -> None:
    random = np.random.default_rng(number)
    sizes = random.integers(1, int(random.integers(2, 200)), size=int(random.integers(2, 11)))
    n = int(sizes.sum())
    chosen = choose_groups(sizes, 0.2 * n, least=2, most=n - 2, random=random)
    best = nearest(sizes.tolist(), 0.2 * n, 2, n - 2)
    if best == np.inf:
        assert not len(chosen)
    else:
        assert 2 <= sizes[chosen].sum() <= n - 2
        assert abs(sizes[chosen].sum() - 0.2 * n) <= max(best, 0.01 * n)


@pytest.mark.parametrize("sizes", [[1] * 3000, [19] * 263, [4000] + [1] * 1000, [1] * 1000 + [600, 700, 4000]])
def test_many_groups_leave_nothing_to_be_desired(sizes: list[int]) -> None:
    n = sum(sizes)
    found = [divided(sizes, seed) for seed in range(3)]
    for division in found:
        assert abs(division.test.mean() - 0.2) <= 0.01
        if 4000 not in sizes:  # what a test part of small groups leaves is one large one
            assert abs(division.validation.sum() / (~division.test).sum() - 0.1) <= 0.01 + 19 / n
        assert not (division.test & division.validation).any()
    assert len({division.test.tobytes() for division in found}) == 3, "another seed, another split"


def test_a_table_that_lost_two_fifths_to_its_test_part_keeps_them() -> None:
    """Groups of 40, 25, 20 and 15 of 100 variants: in the order of a seed, a fifth was passed by the first."""
    sizes = [40, 25, 20, 15]
    for seed in range(6):
        division = divided(sizes, seed)
        assert division.test.sum() == 20
        assert "instead of" not in division.how.partition(";")[0]
    first = [
        divide(landscape(sizes), "by_group", max_train_mutations=None, seed=seed, group_rule=None) for seed in range(6)
    ]
    assert max(division.test.sum() for division in first) == 40


def test_a_group_that_is_too_large_is_said() -> None:
    how = divided([70, 60, 50]).how
    assert "test has 28% instead of 20%, the nearest that whole groups allow: 'g0' alone has 39%" in how
    assert "validation at random, as 2 groups are left for train" in how
    how = divided([100, 40, 40, 40]).how
    assert "1 of the others are validation; validation has 22% instead of 10%" in how
    with pytest.raises(UserError, match=r"the largest of 2, 'g0', has 40 of 41 variants"):
        divided([40, 1])
    with pytest.raises(UserError, match="needs two groups, this table has 1"):
        divided([40])


HOSTILE = ["plain", 'a "quoted", one', "with, comma", "ü", "NA2", "=1+1", "0", " inside blank", "x" * 300]


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A table of quoted cells, whose groups have names that a file in FLIP's format has to quote too."""
    names = ['"' + HOSTILE[i % len(HOSTILE)].replace('"', '""') + '"' for i in range(len(VARIANTS))]
    rows = [(*row, name) for row, name in zip(VARIANTS, names, strict=True)]
    return write(tmp_path / "t.csv", "mutant,sequence,fitness,family", rows)


def prepared(found: Survey, path: Path, cache: Path) -> PreparedSplit:
    return prepare(table_task(found.table, name="t", path=path), data_dir=None, cache_dir=cache, announce=print)


def test_a_split_carries_its_groups_wherever_it_goes(grouped: Path, tmp_path: Path) -> None:
    found = surveyed(grouped, split="by_group", group_column="family", group_rule="nearest")
    raw = found.raw_split()
    written = tmp_path / "written.csv"
    written.write_bytes(b"".join(flip_blocks(raw.sequence, raw.target, raw.part, raw.validation, raw.group)))
    # The experiment's table leads to the same split from the table and from the written split.
    splits = [prepared(found, path, tmp_path / path.stem) for path in (grouped, written)]
    for split in splits:
        assert split.data_hash == raw.content_hash
        assert split.group is not None
        of_test = files.test_groups(split)
        assert of_test is not None
        assert not np.isin(of_test, split.group).any()
        assert len(np.unique(split.group)) + len(np.unique(of_test)) == len(HOSTILE)
    assert (splits[0].group == splits[1].group).all()
    # Other groups are other data.
    other = write(
        tmp_path / "o.csv", "mutant,sequence,fitness,family", [(*row, i % 9) for i, row in enumerate(VARIANTS)]
    )
    assert (
        surveyed(other, split="by_group", group_column="family", group_rule="nearest").raw_split().content_hash
        != raw.content_hash
    )


def test_a_set_column_and_groups_go_together(tmp_path: Path) -> None:
    rows = [(s, v, "test" if i % 5 == 0 else "train", f"g{i % 10}") for i, (_, s, v) in enumerate(VARIANTS)]
    path = write(tmp_path / "t.csv", "sequence,target,set,family", rows)
    found = surveyed(path, group_column="family", group_rule="nearest")
    split = prepared(found, path, tmp_path / "cache")
    assert split.group is not None
    assert len(np.unique(split.group)) == 8
    # With FLIP's columns, too, the groups are those of the column that was named.
    rows = [(*row[:3], "", row[3]) for row in rows]
    path = write(tmp_path / "u.csv", "sequence,target,set,validation,family", rows)
    found = surveyed(path, group_column="family", group_rule="nearest")
    again = prepared(found, path, tmp_path / "cache")
    assert again.data_hash == found.raw_split().content_hash
    assert again.group is not None


def test_the_first_rule_and_its_hash_are_kept(grouped: Path) -> None:
    """What studies and experiments of the first version were made on."""
    rows = [(*row, f"g{i % 7}") for i, row in enumerate(VARIANTS)]
    path = write(grouped.parent / "u.csv", "mutant,sequence,fitness,family", rows)
    raw = surveyed(path, split="by_group", group_column="family").raw_split()
    assert raw.content_hash == "5941255d3f424df969c87835e9cb0f9550464cbc26be64cd5e47a316c485418a"
    assert raw.part.count("test") == 308


def test_folds_hold_whole_groups_of_about_the_same_size(tmp_path: Path) -> None:
    group = [int(i**0.5) for i in range(len(VARIANTS))]
    rows = [(*row, name) for row, name in zip(VARIANTS, group, strict=True)]
    path = write(tmp_path / "t.csv", "mutant,sequence,fitness,family", rows)
    found = surveyed(path, split="by_group", group_column="family", group_rule="nearest")
    split, task = prepared(found, path, tmp_path / "cache"), table_task(found.table, name="t")
    assert split.group is not None
    folds = ByGroup(n_folds=5, seed=0).folds(split, task)
    sizes = [len(fold.validation) for fold in folds]
    assert sum(sizes) == len(split.target)
    assert max(sizes) - min(sizes) <= 0.05 * sum(sizes)
    for fold in folds:
        assert not np.isin(split.group[fold.validation], split.group[fold.train]).any()
    again = ByGroup(n_folds=5, seed=1).folds(split, task)
    assert [fold.validation.tolist() for fold in again] != [fold.validation.tolist() for fold in folds]
    n = len(np.unique(split.group))
    with pytest.raises(UserError, match=f"more than the {n} groups that t has outside of its test data: expected 2 to"):
        ByGroup(n_folds=n + 1, seed=0).folds(split, task)


def test_folds_need_groups(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "mutant,sequence,fitness", VARIANTS)
    found = surveyed(path, split="random")
    split = prepared(found, path, tmp_path / "cache")
    assert split.group is files.test_groups(split) is None
    with pytest.raises(UserError, match="t has no groups, which validation=by_group needs: name their column"):
        ByGroup(n_folds=5, seed=0).folds(split, table_task(found.table, name="t"))
