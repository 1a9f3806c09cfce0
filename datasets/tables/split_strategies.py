"""Ways to divide a user's variants into train, validation and test, after FLIP's.

All are seeded. The test part is a fifth of the variants where a strategy leaves that open. A tenth of train, drawn
at random, is its validation part as in FLIP; `by_group` takes whole groups for it where three or more are left.

`by_group` takes the groups that come nearest to these parts. By the rule of the first version, which its studies and
experiments keep, it took groups in a random order until the part was reached, however far beyond it that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.seeds import derive_seed
from datasets.sequences.chains import Chains
from datasets.tables.table import GroupRule, check_strategy
from datasets.tables.whole_groups import choose_groups

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
_FAR = 0.25  # of the share that is wanted
_FIXED_K = {"one_vs_rest": 1, "two_vs_rest": 2, "three_vs_rest": 3}

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Landscape:
    """What the strategies divide: N variants, each once unless all of its measurements are kept.

    target: (N,) float64. n_mutations: (N,) int64 from the wild type, None where that is not known or a sequence has
    another length. mutated: (N, P) bool at the P positions that vary, under the same condition; positions: (P,) int64,
    numbered as the table does; of `chains` their columns from 1. group: N cells of the chosen column, or None. fold:
    likewise. sequence: (N,) int64, the same number for rows of one sequence, counted by their first rows; None where
    each has one row.
    """

    target: NDArray[np.float64]
    n_mutations: NDArray[np.int64] | None
    mutated: Mask | None
    positions: NDArray[np.int64] | None
    group: Sequence[str] | None
    fold: Sequence[str] | None = None
    chains: Chains | None = None
    sequence: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TableSplit:
    """test: (N,) bool. validation: (N,) bool, never where test is. how: what was done, in words."""

    test: Mask
    validation: Mask
    how: str


def divide(
    landscape: Landscape,
    strategy: str,
    *,
    max_train_mutations: int | None,
    seed: int,
    group_rule: GroupRule | None = "nearest",
) -> TableSplit:
    """Divide the variants; a UserError says what the strategy lacks, or which part would be empty.

    `group_rule`: None is the first version's.
    """
    check_strategy(strategy)
    random = np.random.Generator(np.random.PCG64(derive_seed("split", strategy, seed)))
    if strategy in _FIXED_K or strategy == "k_vs_rest":
        k = _FIXED_K.get(strategy, max_train_mutations)
        if k is None:
            raise UserError("--split k_vs_rest needs --max-train-mutations N: train has at most N mutations.")
        test, how = _k_vs_rest(landscape, k)
    else:
        ways: dict[str, Callable[[Landscape, np.random.Generator], tuple[Mask, str]]] = {
            "random": _at_random,
            "low_vs_high": _low_vs_high,
            "by_position": _by_position,
            "by_group": _by_group if group_rule else _first_by_group,
        }
        test, how = ways[strategy](landscape, random)
    for part, n in (("test", int(test.sum())), ("train", int((~test).sum()))):
        if n < 2:
            raise UserError(f"The split {strategy} leaves {n} variants for {part} ({how}); choose another split.")
    if strategy == "by_group":
        in_groups = _validation_groups if group_rule else _first_validation_groups
        validation, added = in_groups(landscape, test, random)
    else:
        validation, added = _validation_at_random(landscape, test, random), ""
    return TableSplit(test=test, validation=validation, how=how + added)


def _validation_at_random(landscape: Landscape, test: Mask, random: np.random.Generator) -> Mask:
    """Draw the validation part: two variants at least, but never all of train; each with all of its rows."""
    train = np.flatnonzero(~test & _first_rows(landscape))
    n = min(max(2, round(_VALIDATION_SHARE * len(train))), len(train) - 1)
    validation = np.zeros(len(test), dtype=np.bool_)
    validation[random.permutation(train)[:n]] = True
    return _with_all_rows(landscape, validation) & ~test


def validation_part(landscape: Landscape, test: Mask, seed: int) -> Mask:
    """Draw a tenth of what is not test, for a file that marks a test part alone."""
    return _validation_at_random(landscape, test, np.random.Generator(np.random.PCG64(derive_seed("validation", seed))))


def _first_rows(landscape: Landscape) -> Mask:
    """Return which rows (N,) are the first of their sequence."""
    if landscape.sequence is None:
        return np.ones(len(landscape.target), dtype=np.bool_)
    first = np.zeros(len(landscape.target), dtype=np.bool_)
    first[np.unique(landscape.sequence, return_index=True)[1]] = True
    return first


def _with_all_rows(landscape: Landscape, part: Mask) -> Mask:
    """Return a part (N,), and all other rows of its sequences."""
    sequence = landscape.sequence
    return part if sequence is None else np.isin(sequence, sequence[part])


def _k_vs_rest(landscape: Landscape, k: int) -> tuple[Mask, str]:
    if landscape.n_mutations is None:
        raise UserError(_NEEDS_WILD_TYPE.format(what=f"A split by the number of mutations (at most {k} in train)"))
    return landscape.n_mutations > k, f"train has at most {k} mutation{'s' if k != 1 else ''}"


def _at_random(landscape: Landscape, random: np.random.Generator) -> tuple[Mask, str]:
    rows = np.flatnonzero(_first_rows(landscape))
    test = np.zeros(len(landscape.target), dtype=np.bool_)
    test[random.permutation(rows)[: round(_TEST_SHARE * len(rows))]] = True
    return _with_all_rows(landscape, test), "a fifth drawn at random is test"


def _low_vs_high(landscape: Landscape, random: np.random.Generator) -> tuple[Mask, str]:
    n_mutations = landscape.n_mutations
    wild = np.flatnonzero(n_mutations == 0) if n_mutations is not None else np.array([], dtype=np.int64)
    if len(wild):
        threshold, named = float(landscape.target[wild[0]]), "the wild type's"
    else:
        threshold, named = float(np.median(landscape.target)), "the median, as the wild type was not measured"
    test: Mask = np.greater(landscape.target, threshold)
    return test, f"test has the targets above {threshold:g}, {named}"


def _by_position(landscape: Landscape, random: np.random.Generator) -> tuple[Mask, str]:
    if landscape.mutated is None or landscape.positions is None:
        raise UserError(_NEEDS_WILD_TYPE.format(what="A split by position"))
    in_all = set(np.flatnonzero(landscape.mutated.all(axis=0)).tolist())  # a background, which divides nothing
    order = [column for column in random.permutation(len(landscape.positions)).tolist() if column not in in_all]
    if len(order) < 2:
        raise UserError(
            f"A split by position needs two mutated positions, this table has {len(order)}"
            f"{' beside those at which every variant is mutated' * bool(in_all)}."
        )
    n = _n_until_share(landscape.mutated[:, order].T, len(order) - 1)
    held = np.sort(landscape.positions[order[:n]]).tolist()
    chains = landscape.chains
    called = map(str, held[:10]) if chains is None else (chains.position(number - 1) for number in held[:10])
    shown = ", ".join(called) + (", ..." if len(held) > 10 else "")
    test: Mask = np.any(landscape.mutated[:, order[:n]], axis=1)
    return test, f"variants mutated at position {shown} are test"


def _by_group(landscape: Landscape, random: np.random.Generator) -> tuple[Mask, str]:
    names, group, sizes = _groups(landscape)
    held = choose_groups(sizes, _TEST_SHARE * len(group), least=2, most=len(group) - 2, random=random)
    if not len(held):
        raise UserError(
            f"No whole groups of this table leave two variants or more to both train and test: the largest of "
            f"{len(names)}, {str(names[sizes.argmax()])!r}, has {int(sizes.max())} of {len(group)} variants."
        )
    test = np.isin(group, held)
    shown = ", ".join(map(str, names[held][:5])) + (", ..." if len(held) > 5 else "")
    how = f"{len(held)} of {len(names)} groups are test: {shown}"
    return test, how + _far_from(_TEST_SHARE, test, names, sizes, "test")


def _first_by_group(landscape: Landscape, random: np.random.Generator) -> tuple[Mask, str]:
    names, group, _ = _groups(landscape)
    order = random.permutation(len(names)).tolist()
    n = _n_until_share((group == number for number in order), len(names) - 1)
    held = [str(names[number]) for number in order[:n]]
    shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
    return np.isin(group, order[:n]), f"{n} of {len(names)} groups are test: {shown}"


def _validation_groups(landscape: Landscape, test: Mask, random: np.random.Generator) -> tuple[Mask, str]:
    names, group, sizes = _groups(landscape)
    left = np.unique(group[~test])
    n_train = int((~test).sum())
    if len(left) >= 3:
        wanted = _VALIDATION_SHARE * n_train
        held = left[choose_groups(sizes[left], wanted, least=2, most=n_train - 1, random=random)]
        if len(held):
            validation = np.isin(group, held)
            far = _far_from(_VALIDATION_SHARE, validation[~test], names[left], sizes[left], "validation")
            return validation, f"; {len(held)} of the others are validation{far}"
    why = f"; validation at random, as {len(left)} groups are left for train"
    return _validation_at_random(landscape, test, random), why


def _far_from(share: float, part: Mask, names: NDArray[np.str_], sizes: NDArray[np.int64], what: str) -> str:
    """Say that a part, a mask of the rows that it was chosen from, is far from its share; name the largest group."""
    n_wanted = share * len(part)
    if abs(part.sum() - n_wanted) <= _FAR * n_wanted:
        return ""
    largest = int(sizes.argmax())
    return (
        f"; {what} has {part.mean():.0%} instead of {share:.0%}, the nearest that whole groups allow: "
        f"{str(names[largest])!r} alone has {sizes[largest] / len(part):.0%}"
    )


def _groups(landscape: Landscape) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64]]:
    """Return the names (G,) of the groups, the number (N,) of each variant's, and their sizes (G,)."""
    if landscape.group is None:
        raise UserError("--split by_group needs --group-column NAME: whole groups become test.")
    names, group = np.unique(np.array(landscape.group, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        raise UserError(f"A split by group needs two groups, this table has {len(names)}.")
    return names, group.astype(np.int64), np.bincount(group, minlength=len(names)).astype(np.int64)


def _first_validation_groups(landscape: Landscape, test: Mask, random: np.random.Generator) -> tuple[Mask, str]:
    _, group, _ = _groups(landscape)
    left = random.permutation(np.unique(group[~test])).tolist()
    if len(left) < 3:
        why = f"; validation at random, as {len(left)} groups are left for train"
        return _validation_at_random(landscape, test, random), why
    masks = ((group == number)[~test] for number in left)
    n = _n_until_share(masks, len(left) - 1, _VALIDATION_SHARE)
    return np.isin(group, left[:n]) & ~test, f"; {n} of the others are validation"


def _n_until_share(masks: Iterable[Mask], n_most: int, share: float = _TEST_SHARE) -> int:
    """Return how many of the masks (N,) it takes to cover a share of the N rows: one at least, `n_most` at most."""
    covered: Mask | None = None
    for n, mask in enumerate(masks, 1):
        covered = mask.copy() if covered is None else covered | mask
        if covered.mean() >= share or n == n_most:
            return n
    return n_most


_NEEDS_WILD_TYPE = (
    "{what} needs the wild type, and sequences of its length: name it with --wild-type FASTA, or choose another split."
)
