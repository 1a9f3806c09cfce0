"""Batches that are spread out: the greedy pick against determinants, likeness of sequences, and what is passed over."""

import numpy as np
import pytest

from datasets.candidates.candidates import residues_of
from search.suggestion.determinantal import in_batch_ranges, spread_out
from search.suggestion.spread import alike


def likeness(n: int, seed: int) -> np.ndarray:
    places = np.random.default_rng(seed).normal(size=(n, 3))
    return np.exp(-((places[:, None] - places) ** 2).sum(axis=2))


@pytest.mark.parametrize("weight", [0.5, 1.0, 4.0])
def test_each_pick_adds_most_to_the_logarithm_of_the_determinant(weight: float) -> None:
    quality, similarity = np.random.default_rng(1).normal(size=40), likeness(40, 2)
    found = spread_out(quality, similarity, 12, weight=weight)
    assert len(set(found)) == 12
    for n in range(12):
        before = found[:n]

        def worth(row: int, before: list[int] = before) -> float:
            rows = [*before, row]
            return float(quality[rows].sum() + weight / 2 * np.linalg.slogdet(similarity[np.ix_(rows, rows)])[1])

        best = max(worth(row) for row in range(40) if row not in before)
        assert worth(found[n]) == pytest.approx(best, abs=1e-6)


def test_near_duplicates_are_taken_late_and_still_before_nothing() -> None:
    """Three groups of four that are as good as alike; the best ones are all of the first group."""
    group = np.repeat([0, 1, 2], 4)
    similarity = np.where(group[:, None] == group, 0.999, 0.05)
    np.fill_diagonal(similarity, 1.0)
    quality = -np.arange(12) / 12
    assert spread_out(quality, similarity, 3, weight=0) == [0, 1, 2]
    assert spread_out(quality, similarity, 3, weight=1) == [0, 4, 8]
    assert sorted(spread_out(quality, similarity, 99, weight=1)) == list(range(12))
    same = np.ones((5, 5))  # nothing tells them apart: by quality, the first of equal ones
    assert spread_out(np.array([0.0, 1.0, 1.0, -1.0, 0.5]), same, 4, weight=1) == [1, 2, 4, 0]


def test_what_was_taken_before_counts_and_what_is_refused_is_passed_over() -> None:
    quality, similarity = np.random.default_rng(3).normal(size=30), likeness(30, 4)
    whole = spread_out(quality, similarity, 10, weight=1)
    order = [*whole[:4], *(row for row in range(30) if row not in whole[:4])]
    rest = spread_out(quality[order], similarity[np.ix_(order, order)], 6, weight=1, n_before=4)
    assert [order[row] for row in rest] == whole[4:]
    asked: list[int] = []

    def take(row: int) -> bool:
        asked.append(row)
        return row % 2 == 0

    found = spread_out(quality, similarity, 5, weight=1, take=take)
    assert all(row % 2 == 0 for row in found)
    assert len(asked) == len(set(asked)) > len(found) == 5


def test_acquisitions_count_by_how_far_the_best_is_above_the_last_of_a_batch() -> None:
    assert in_batch_ranges(np.array([3.0, 9.0, 5.0, 1.0]), 3).tolist() == [-1.0, 0.0, -4 / 6, -8 / 6]
    assert in_batch_ranges(np.array([2.0, 2.0, 2.0]), 2).tolist() == [0.0, 0.0, 0.0]
    assert in_batch_ranges(np.array([7.0]), 5).tolist() == [0.0]


def test_sequences_are_alike_by_their_residues_and_positions() -> None:
    residues, _ = residues_of(["MKVLA", "MKILA", "MKWLA", "MWWWW", "MKVL"], lambda text: text)
    found = alike(residues)
    assert np.allclose(found, found.T)
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert found.diagonal().tolist() == [1.0] * 5
    assert found[0, 1] > found[0, 2] > found[0, 3]  # valine is more like isoleucine than tryptophan
    assert found[0, 4] < 1
    assert alike(residues[:1]).tolist() == [[1.0]]
    assert alike(residues[[0, 0]]).tolist() == [[1.0, 1.0], [1.0, 1.0]]
