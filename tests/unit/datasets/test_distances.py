"""Distances are the smallest there are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets.candidates.distances
from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import residues_of
from datasets.candidates.distances import TrainingSequences
from datasets.sequences.crop import Crop
from datasets.task import Task
from datasets.tasks.flip import clean_flip
from datasets.tasks.registry import find_task

ANY = find_task("meltome_mixed")
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def training_sequences(sequences: list[str], task: Task = ANY, max_length: int | None = None) -> TrainingSequences:
    limit = LengthLimit(max_length=max_length, max_residues=None, truncate=True)
    return TrainingSequences(*residues_of(sequences, clean_flip), task=task, crop=None, limit=limit)


def edits(a: str, b: str) -> int:
    """By the textbook."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def expected(candidate: str, training: list[str]) -> int:
    return min(
        sum(a != b for a, b in zip(candidate, other, strict=True))
        if len(candidate) == len(other)
        else edits(candidate, other)
        for other in training
    )


RESIDUES = st.text("ACWX", min_size=1, max_size=60)  # few letters, so that some sequences are near


@pytest.mark.slow
@given(
    training=st.lists(RESIDUES, min_size=1, max_size=8), new=st.lists(RESIDUES, max_size=3), n_at_once=st.integers(1, 4)
)
@settings(max_examples=300, deadline=None)
def test_distances_are_those_of_the_textbook(training: list[str], new: list[str], n_at_once: int) -> None:
    first = training[0]
    candidates = [*new, first, "W" + first, first[1:] or "A", first[: len(first) // 2] + "C" + first[len(first) // 2 :]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            datasets.candidates.distances, "_AT_ONCE", n_at_once
        )  # so that a few sequences are aligned in several steps
        found = training_sequences(training).distance(*residues_of(candidates, clean_flip))
    assert found.tolist() == [expected(candidate, training) for candidate in candidates]


def test_a_check_can_end_what_is_measured_of_one_candidate() -> None:
    n_checks = 0

    def check() -> None:
        nonlocal n_checks
        n_checks += 1
        if n_checks == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_sequences(["ACDE", "ACDEFG"]).distance(*residues_of(["WWWWW"], clean_flip), check)


@pytest.mark.parametrize("lengths", [(12,), (10, 11, 12, 15)])
@pytest.mark.parametrize("entries", [2**22, 2**9])
def test_distances_are_the_smallest(lengths: tuple[int, ...], entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.candidates.distances, "_ENTRIES", entries)  # the smaller one divides the matrices
    random = np.random.default_rng(0)
    wild_type = "MKVLAGHTRWYDEQSP"
    training = []
    for _ in range(60):
        text = list(wild_type[: random.choice(lengths)])
        for _ in range(3):
            text[random.integers(2, 9)] = random.choice(list("AVW"))
        training.append("".join(text))
    candidates = [
        *training[:5],
        wild_type[:12],
        wild_type[:13],
        "".join(random.choice(list(LETTERS), 12)),
        "W",
        "X" * 12,
    ]
    for _ in range(60):
        text = list(training[random.integers(60)])
        text[random.integers(len(text))] = random.choice(list(LETTERS))
        candidates.append("".join(text))
    found = training_sequences(training).distance(*residues_of(candidates, clean_flip))
    assert found.tolist() == [expected(candidate, training) for candidate in candidates]


def test_a_single_training_sequence_is_a_distance_too() -> None:
    found = training_sequences(["ACDEF"]).distance(*residues_of(["ACDEF", "ACDEW", "WWWWW", "ACDE"], clean_flip))
    assert found.tolist() == [0, 1, 5, 1]


def test_what_the_model_does_not_see_is_no_distance() -> None:
    task = replace(ANY, crops={"head": Crop(stop=4)}, default_crop="head")
    one = training_sequences(["ACDEFGH", "AWDEFGH"], task)
    candidates = residues_of(["ACDEFGH", "ACDEFGW", "AYDEFGH", "ACWEFGH", "ACDE", "AYWE", "ACD", "AC"], clean_flip)
    assert one.distance(*candidates).tolist() == [0, 0, 1, 1, 0, 2, 1, 2]


def test_long_sequences_are_compared_as_they_are_cut() -> None:
    one = training_sequences(["ACDEFGHIKL", "ACDE"], max_length=6)
    candidates = residues_of(["ACDEFGWWWWWWW", "ACDEFG"], clean_flip)
    assert one.distance(*candidates).tolist() == [0, 0]
