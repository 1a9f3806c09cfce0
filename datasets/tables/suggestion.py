"""Which split to begin with, by what a table is: its sequences and its columns alone, never its targets.

1. A column of folds, where one is named: each fold is the test set of a study of its own.
2. A column that names groups (`group`, `cluster`, `family` and the like): `by_group`, because variants of a group are
   alike, and a random split would test a model on what it has all but seen.
3. Variants of one wild type, some with more than one mutation: train on those with few mutations and predict those with
   more, as a protein engineer has to. The number that train may have at most is the smallest that leaves 100 variants
   for it and a fifth of all for test.
4. Everything else is divided at `random`: variants with one mutation each, proteins of many lengths, sequences without
   a known wild type, and tables that are too small for the above. For single mutants `by_position` asks another
   question, which is named beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.common.errors import UserError
from datasets.tables import column_names
from datasets.tables.split_strategies import TableSplit, divide
from datasets.tables.survey import Survey
from datasets.tables.table import ALL_FOLDS

_LEAST_TRAIN = 100
_LEAST_TEST_SHARE = 0.2
_NAMED_K = {1: "one_vs_rest", 2: "two_vs_rest", 3: "three_vs_rest"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """`words` of the command line that name a split, and `why` it, as a sentence."""

    words: tuple[str, ...]
    why: str


def suggest(survey: Survey) -> Suggestion:
    """Return the split to begin with, for a table that has none of its own."""
    n_mutations = survey.common.n_mutations
    if survey.landscape.fold is not None and survey.table.fold_column is not None:
        return Suggestion(
            words=("--test-fold", ALL_FOLDS),
            why=f"The column {survey.table.fold_column!r} names {len(set(survey.landscape.fold))} folds: each becomes "
            "the test set of a study of its own, which cross-validates by the others.",
        )
    if group := column_names.possible_group_column(survey.columns):
        return Suggestion(
            words=("--split", "by_group", "--group-column", group),
            why=f"The column {group!r} names groups: whole groups become test, so that a model is not judged by "
            "variants that are much like those that it has seen.",
        )
    if survey.table.round_column is not None:
        return Suggestion(
            words=("--split", "random"),
            why=f"The column {survey.table.round_column!r} names rounds, by which validation judges: random test rows "
            "leave variants in each of them, where a split by mutations may leave those of one alone.",
        )
    if n_mutations is None:
        return Suggestion(
            words=("--split", "random"),
            why="The sequences are not variants of one known wild type, so no split by mutations is possible. "
            "If some are close relatives, add a column `group` that says which: a random split puts relatives "
            "into train and test.",
        )
    if n_mutations.max() <= 1:
        return Suggestion(
            words=("--split", "random"),
            why="No variant has more than one mutation. A random split asks how well the other mutations at the same "
            "positions are predicted; for positions at which nothing was measured use --split by_position, with "
            "--model kernel or forest, because ridge cannot tell such positions apart.",
        )
    for k in range(1, int(n_mutations.max())):
        n_train = int((n_mutations <= k).sum())
        if n_train >= _LEAST_TRAIN and len(n_mutations) - n_train >= _LEAST_TEST_SHARE * len(n_mutations):
            named = (_NAMED_K[k],) if k in _NAMED_K else ("k_vs_rest", "--max-train-mutations", str(k))
            return Suggestion(
                words=("--split", *named),
                why=f"{n_train:,} variants have at most {k} mutation{'s' * (k > 1)}, the others more: this split "
                "trains on the former and tests on the latter.",
            )
    return Suggestion(
        words=("--split", "random"),
        why=f"No number of mutations leaves {_LEAST_TRAIN} variants with fewer for train and a fifth of all for test.",
    )


def families(survey: Survey, division: TableSplit | None, *, max_kernel_rows: int) -> tuple[str, ...]:
    """Return the model families to compare, the cheap ones first.

    Args:
        survey: the table.
        division: the one that is searched; None where it is not known.
        max_kernel_rows: the most training rows that the kernel takes.
    """
    n_mutations = survey.common.n_mutations
    is_of_singles = n_mutations is not None and n_mutations.max() <= 1
    n_train = len(survey.sequences) if division is None else int(np.sum(~division.test))
    suitable = {
        "ridge": not (is_of_singles and _asks_new_positions(survey)),  # it knows nothing of new positions
        "kernel": n_train <= max_kernel_rows,
        "forest": is_of_singles,
        "cnn": True,
    }
    return tuple(name for name, is_suitable in suitable.items() if is_suitable)


def _asks_new_positions(survey: Survey) -> bool:
    """Whether variants are judged by models that have seen no variant mutated at their positions.

    That is what `by_position` does, and what folds of positions do, such as ProteinGym's contiguous and modulo ones:
    most of their mutated variants are mutated where no variant of another fold is.
    """
    fold, mutated = survey.landscape.fold, survey.landscape.mutated
    if survey.table.split == "by_position":
        return True
    if survey.table.fold_column is None or fold is None or mutated is None:
        return False
    names, number = np.unique(np.array(fold), return_inverse=True)
    counts = np.stack([mutated[number == one].sum(axis=0) for one in range(len(names))])
    elsewhere = (counts.sum(axis=0) - counts) > 0  # (n_folds, P): whether another fold has a variant mutated there
    is_mutated = mutated.any(axis=1)
    is_known = (mutated & elsewhere[number]).any(axis=1)
    return bool(is_mutated.any()) and float(is_known[is_mutated].mean()) < 1 / 2


def division_of(survey: Survey, suggestion: Suggestion) -> TableSplit | None:
    """Return how a suggested split would divide the table; None where that is not one division, or
    follows from a column that was not read.
    """
    words = dict(zip(suggestion.words[::2], suggestion.words[1::2], strict=True))
    if "--split" not in words:
        return None
    k = words.get("--max-train-mutations")
    try:
        return divide(
            survey.landscape,
            words["--split"],
            max_train_mutations=None if k is None else int(k),
            seed=survey.table.split_seed,
        )
    except UserError:
        return None
