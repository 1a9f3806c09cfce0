"""The protocol that a split gets when nobody names one, from what is known before testing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datasets.mutation_counts import find_mutations
from datasets.prepared import PreparedSplit, test_sequences
from datasets.shifted import find_shift
from datasets.task import Shift, Task
from datasets.validation import MIN_SEQUENCES, Fold, Holdout, KFold, Validation
from datasets.without_rise import WithoutRise

# Twice what 500 sequences without any relation stray by (0.045), and well below what was seen of wrong ones (0.6).
_MOST_RISE = 0.1
_ENOUGH = 250  # validation sequences: picking the best of 100 trials on 299 overstates Spearman by about 0.07


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a split before testing.

    `mutations` and `test_mutations`: how many sequences there are by number of mutations, in train and validation
    together and in test; None without a wild type.
    """

    n_train: int
    n_validation: int
    n_test: int
    shift: Shift
    mutations: Mapping[int, int] | None
    test_mutations: Mapping[int, int] | None


def choose(facts: Facts) -> Validation:
    """Return the protocol for a split: its own validation part where that is large, k-fold otherwise.

    Where the test variants have more mutations than all others, and not all the same number, also without those that
    rank them by that number.
    """
    is_enough = facts.n_validation >= _ENOUGH or facts.n_train + facts.n_validation < MIN_SEQUENCES
    protocol = Holdout() if is_enough else KFold(n_folds=5, seed=0)
    if facts.shift == "mutations" and facts.test_mutations is not None and len(facts.test_mutations) > 1:
        return WithoutRise(protocol=protocol, most=_MOST_RISE)
    return protocol


def find_facts(split: PreparedSplit, task: Task) -> Facts:
    """Return what is known of a split; its test sequences are read, without their targets."""
    mutations = test_mutations = None
    if task.wild_type is not None:
        mutations = _histogram(find_mutations(split.residues, split.lengths, task.wild_type).counts)
        test_mutations = _histogram(find_mutations(*test_sequences(split), task.wild_type).counts)
    return Facts(
        n_train=split.n_train,
        n_validation=split.n_validation,
        n_test=split.n_test,
        shift=find_shift(split, task),
        mutations=mutations,
        test_mutations=test_mutations,
    )


class Auto(Validation):
    """What `choose` returns for the split. A search and `train` put that in its place before anything else."""

    shown = "auto"

    @property
    def n_folds_in_all(self) -> int:
        """Raise a ValueError: that depends on the split."""
        raise ValueError("auto has to be resolved for a split before its folds can be counted")

    def resolve(self, split: PreparedSplit, task: Task) -> Validation:
        """Return the protocol for a split."""
        return choose(find_facts(split, task))

    def folds(self, split: PreparedSplit, task: Task) -> tuple[Fold, ...]:
        """Return the folds of the protocol for the split."""
        return self.resolve(split, task).folds(split, task)


def _histogram(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> dict[int, int]:
    return dict(zip(*(part.tolist() for part in np.unique(counts, return_counts=True)), strict=True))
