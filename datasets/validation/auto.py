"""The protocol that a split gets when nobody names one, from what is known before testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.mutation_counts import find_mutations
from datasets.splits.prepared import PreparedSplit, test_groups, test_sequences
from datasets.task import Shift, Task
from datasets.validation.given_folds import ByFold
from datasets.validation.grouped import ByGroup
from datasets.validation.mutational_load import WithoutRise
from datasets.validation.protocols import MIN_SEQUENCES, Fold, Holdout, KFold, Validation
from datasets.validation.rounds import Rounds
from datasets.validation.shifted import ByPosition, find_shift

# Twice what 500 sequences without any relation stray by (0.045), and well below what was seen of wrong ones (0.6).
_MOST_RISE = 0.1
_ENOUGH = 250  # validation sequences: picking the best of 100 trials on 299 overstates Spearman by about 0.07
# Of the test variants; the others may be the wild type, or variants with stop codons that carry its sequence.
_NEARLY_ALL = 0.95
_GROUP_FOLDS, _POSITION_FOLDS = 5, 4  # as in studies/validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a split before testing.

    `mutations` and `test_mutations`: how many sequences there are by number of mutations, in train and validation
    together and in test; None without a wild type. `n_groups`: how many groups there are in train and validation if no
    test variant belongs to one of them, `n_positions`: at how many positions the variants of train and validation are
    mutated if nearly all test variants are mutated at another one; 0 otherwise. `n_folds`: in how many of the folds
    that the table names they are, 0 if it names none; `has_rounds`: these are rounds of measurement; `apart`: what any
    two of these differ in, `groups` and `positions`.
    """

    n_train: int
    n_validation: int
    n_test: int
    shift: Shift
    mutations: Mapping[int, int] | None
    test_mutations: Mapping[int, int] | None
    n_groups: int = 0
    n_positions: int = 0
    n_folds: int = 0
    has_rounds: bool = False
    apart: frozenset[str] = frozenset()

    def unlike(self, chosen: Validation) -> str:
        """Return in words how the test variants differ from what the protocol validates; empty if they do not."""
        protocol = chosen.protocol if isinstance(chosen, WithoutRise) else chosen
        differences = []
        apart = self.apart if isinstance(protocol, ByFold) else frozenset()
        if self.n_groups and not isinstance(protocol, ByGroup) and "groups" not in apart:
            differences.append("belong to groups that training lacks")
        if self.n_positions and not isinstance(protocol, (ByGroup, ByPosition)) and "positions" not in apart:
            differences.append("are mutated at positions that training lacks")
        if self.shift == "mutations":
            differences.append("have more mutations")
        if self.shift == "fitness":
            differences.append("are fitter")
        return f"test variants {' and '.join(differences)}" if differences else ""


def choose(facts: Facts) -> Validation:
    """Return the protocol for a split: what differs between train and test differs between the folds as well.

    The rounds or the folds that the table names, where it does. Whole groups where the test variants belong to other
    groups than all others, positions where they are mutated at other positions; elsewhere the split's own validation
    part where that is large, k-fold otherwise. Where the test variants have more mutations than all others, and not all
    the same number, also without those that rank them by that number; of rounds this is not asked.
    """
    protocol: Validation
    if facts.has_rounds:
        return Rounds()
    if facts.n_folds > 1:
        protocol = ByFold(n_folds=facts.n_folds)
    elif facts.n_groups > 1:
        protocol = ByGroup(n_folds=min(_GROUP_FOLDS, facts.n_groups), seed=0)
    elif facts.n_positions > 1:
        protocol = ByPosition(n_folds=min(_POSITION_FOLDS, facts.n_positions), seed=0)
    elif facts.n_validation >= _ENOUGH or facts.n_train + facts.n_validation < MIN_SEQUENCES:
        protocol = Holdout()
    else:
        protocol = KFold(n_folds=5, seed=0)
    if facts.shift == "mutations" and facts.test_mutations is not None and len(facts.test_mutations) > 1:
        return WithoutRise(protocol=protocol, most=_MOST_RISE)
    return protocol


def find_facts(split: PreparedSplit, task: Task) -> Facts:
    """Return what is known of a split; its test sequences and their groups are read, without their targets."""
    mutations = test_mutations = None
    n_positions, apart = 0, set()
    folds = None if split.fold is None else [split.fold == number for number in np.unique(split.fold)]
    if task.wild_type is not None:
        known = find_mutations(split.residues, split.lengths, task.wild_type)
        of_test = find_mutations(*test_sequences(split), task.wild_type)
        mutations, test_mutations = _histogram(known.counts), _histogram(of_test.counts)
        is_mutated = known.sites.any(axis=0)
        if _at_other_positions(of_test.sites, known.sites):
            n_positions = int(is_mutated.sum())
        if folds and all(_at_other_positions(known.sites[fold], known.sites[~fold]) for fold in folds):
            apart.add("positions")
    if folds and split.group is not None and not _shared(split.group, folds):
        apart.add("groups")
    return Facts(
        n_train=split.n_train,
        n_validation=split.n_validation,
        n_test=split.n_test,
        shift=find_shift(split, task),
        mutations=mutations,
        test_mutations=test_mutations,
        n_groups=_n_groups(split),
        n_positions=n_positions,
        n_folds=len(folds or ()),
        has_rounds=task.has_rounds,
        apart=frozenset(apart),
    )


def resolve(facts: Facts, split: PreparedSplit, task: Task) -> Validation:
    """Return what `choose` says, or the next that it would say where the split is too small or uneven for that."""
    for possible in (facts, replace(facts, n_groups=0)):
        chosen = choose(possible)
        try:
            chosen.folds(split, task)
        except UserError:
            if facts.n_folds > 1 or facts.has_rounds:
                raise  # the table's own are not put aside in silence
            continue
        return chosen
    return choose(replace(facts, n_groups=0, n_positions=0))


class Auto(Validation):
    """What `choose` returns for the split. A search and `train` put that in its place before anything else."""

    shown = "auto"

    @property
    def n_folds_in_all(self) -> int:
        """Raise a ValueError: that depends on the split."""
        raise ValueError("auto has to be resolved for a split before its folds can be counted")

    @property
    def stands_for(self) -> str:
        """Raise a ValueError: that depends on the split."""
        raise ValueError("auto has to be resolved for a split before it is known what a value stands for")

    def resolve(self, split: PreparedSplit, task: Task) -> Validation:
        """Return the protocol for a split."""
        return resolve(find_facts(split, task), split, task)

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds of the protocol for the split."""
        return self.resolve(split, task).folds(split, task)


def _at_other_positions(sites: NDArray[np.bool_], others: NDArray[np.bool_]) -> bool:
    """Whether nearly all variants, by their mutated sites (N, P), are mutated where none of the others (M, P) is."""
    return bool(len(sites) and sites[:, ~others.any(axis=0)].any(axis=1).mean() >= _NEARLY_ALL)


def _shared(group: NDArray[np.int64], folds: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether variants of one group stand in two folds."""
    return sum(len(np.unique(group[fold])) for fold in folds) > len(np.unique(group))


def _n_groups(split: PreparedSplit) -> int:
    of_test = test_groups(split)
    if split.group is None or of_test is None or np.isin(of_test, split.group).any():
        return 0
    return len(np.unique(split.group))


def _histogram(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> dict[int, int]:
    return dict(zip(*(part.tolist() for part in np.unique(counts, return_counts=True)), strict=True))
