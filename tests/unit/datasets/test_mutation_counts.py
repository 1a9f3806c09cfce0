"""Mutations are counted by a rule that can be checked by hand, insertions and deletions among them."""

import random

import numpy as np
import pytest

from datasets.sequences.mutation_counts import find_mutations

WILD = "MKVLA"


def arrays(sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    residues = np.zeros((len(sequences), lengths.max()), dtype=np.uint8)
    for row, sequence in zip(residues, sequences, strict=True):
        row[: len(sequence)] = list(sequence.encode())
    return residues, lengths


@pytest.mark.parametrize(
    ("sequence", "count", "sites"),
    [
        ("MKVLA", 0, []),
        ("MRVLA", 1, [1]),
        ("KMVLA", 2, [0, 1]),  # of the wild type's length: place by place
        ("MKGVLA", 1, [2]),  # before V
        ("MKVLAG", 1, [4]),  # behind the end
        ("KVLA", 1, [0]),
        ("MKVL", 1, [4]),
        ("MKGGVLA", 2, [2]),  # two residues at one place
        ("MRVLGA", 2, [1, 4]),
        ("W", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_small_cases(sequence: str, count: int, sites: list[int]) -> None:
    # Alone, and beside sequences that leave it nothing in common at the ends.
    for others in ([], ["GGGG", "GGGGGGG"]):
        found = find_mutations(*arrays([sequence, *others]), WILD)
        assert found.counts[0] == count
        assert np.flatnonzero(found.sites[0]).tolist() == sites


def distance(one: str, other: str) -> int:
    """Levenshtein's, as in a textbook."""
    before = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
        before = row
    return before[-1]


def test_other_lengths_have_the_fewest_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.sequences.mutation_counts._MOST_CELLS", 2**14)  # in several parts
    draw = random.Random(0)
    wild = "".join(draw.choices("ACDE", k=24))
    sequences = []
    while len(sequences) < 200:
        sequence = list(wild)
        for _ in range(draw.randrange(1, 6)):
            place = draw.randrange(len(sequence))
            edit = draw.choice(("replace", "insert", "delete"))
            sequence[place : place + (edit != "insert")] = [] if edit == "delete" else [draw.choice("ACDE")]
        if len(sequence) != len(wild):
            sequences.append("".join(sequence))
    found = find_mutations(*arrays(sequences), wild)
    assert found.counts.tolist() == [distance(sequence, wild) for sequence in sequences]
    assert (found.sites.sum(axis=1) <= found.counts).all()
    assert found.sites.any(axis=1).all()


@pytest.mark.slow
def test_more_mutations_than_two_bytes_count() -> None:
    found = find_mutations(*arrays(["W" * 33_000, "MKVL"]), WILD)
    assert found.counts.tolist() == [33_000, 1]
