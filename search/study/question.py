"""What a test set asks: of which data, which target, and how the rows are divided into train and test.

Results on different questions are never ranked together, and the readings of their test sets never count together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_N_DIGITS = 8
_BY_NUMBER = {1: "one_vs_rest", 2: "two_vs_rest", 3: "three_vs_rest"}
OWN_SPLIT = "as in the file"
"""The split of a table that says itself, in a `set` column, what is test."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A task; of a user's table also the target column and the split.

    data: the label that stands beside every result. data_hash: of the rows and their division. target and split: None
    for a task with a name of its own, which says both, and in what was written before they were noted.
    """

    task: str
    data: str
    data_hash: str
    target: str | None = None
    split: str | None = None

    @property
    def words(self) -> str:
        """`gb1_two_vs_rest`; of a table `my_assay, target fitness, split random, seed 3`."""
        if self.target is None:
            return self.task
        return f"{self.task}, target {self.target}, split {self.split}"

    @property
    def digits(self) -> str:
        """The first digits of the hash, which tell two versions of one file apart."""
        return self.data_hash[:_N_DIGITS]

    def is_same(self, other: "Question") -> bool:
        """Whether both have the same test set.

        The hash is of the divided rows. It decides alone for a file that brings its own division, as the split that a
        search writes does, and among the tasks of one name where one of the two does not say how it was divided.
        """
        if self.data_hash != other.data_hash:
            return False
        splits = (self.split, other.split)
        if OWN_SPLIT in splits:
            return True
        if None in splits:
            return self.task == other.task
        return (self.target, self.split) == (other.target, other.split)


def question(task: str, data: str, data_hash: str, table: Mapping[str, Any] | None) -> Question:
    """The question of a run: `table` is how a user's table (`datasets.tables.table.Table`) is read, else None."""
    own = {} if table is None else {"target": str(table["target_column"]), "split": split_words(table)}
    return Question(task=task, data=data, data_hash=data_hash, **own)


def question_of(about: Mapping[str, Any]) -> Question | None:
    """The question of a study, by its manifest; None of a study that has none."""
    return question(about["task"], about["data"], about["data_hash"], about.get("table")) if about else None


def split_words(table: Mapping[str, Any]) -> str:
    """How a table is divided: `k_vs_rest of 4`, `by_group of family`, `random, seed 3`, `column, test fold 4`."""
    folds, test_fold = table.get("fold_column"), table.get("test_fold")
    if test_fold is not None:
        return f"{folds}, test fold {test_fold}"
    n, group = table.get("max_train_mutations"), table.get("group_column")
    name = table["split"] or OWN_SPLIT
    if name == "k_vs_rest" and n in _BY_NUMBER:
        name, n = _BY_NUMBER[n], None
    parts = [name + "".join(f" of {one}" for one in (n, group) if one is not None)]
    return ", ".join([*parts, *([f"seed {table['split_seed']}"] if table.get("split_seed") else [])])
