"""The scores that need no training, against the definitions of what they are named after."""

import random

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import baselines
from models.baselines import blosum62, levenshtein
from models.layers.amino_acids import BLOSUM62, LETTERS

WILD_TYPE = "ACDEFGHIKLMNPQRSTVWY"


RESIDUES = st.text("ACWX", max_size=60)


def arrays(sequences, wild_type=WILD_TYPE):
    lengths = np.array([len(sequence) for sequence in sequences])
    residues = np.zeros((len(sequences), lengths.max()), dtype=np.uint8)
    for row, sequence in zip(residues, sequences, strict=True):
        row[: len(sequence)] = np.frombuffer(sequence.encode(), dtype=np.uint8)
    return residues, lengths, np.frombuffer(wild_type.encode(), dtype=np.uint8)


def variants(n, seed):
    """Up to four substitutions, insertions and deletions between positions 5 and 14 each; the wild type among them."""
    draw = random.Random(seed)
    found = [WILD_TYPE]
    for _ in range(n):
        residues = list(WILD_TYPE)
        for _ in range(draw.randint(1, 4)):
            position, letter = draw.randint(5, 14), draw.choice("ACDEFGHIKLMNPQRSTVWYX")
            residues[position : position + draw.randint(0, 1)] = [letter] * draw.randint(0, 2)
        found.append("".join(residues))
    return found


def best_alignment(one, other, score, gap):
    """The textbook's recursion, cell by cell."""
    row = [-gap * j for j in range(len(other) + 1)]
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], -gap * i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], max(row[j] - gap, row[j - 1] - gap, before + score(a, b))
    return row[-1]


def matrix():
    return {(a, b): int(BLOSUM62[i, j]) for i, a in enumerate(LETTERS) for j, b in enumerate(LETTERS)}


def test_levenshtein_counts_edits_with_insertions_and_deletions_too():
    sequences = variants(200, seed=0)
    expected = [best_alignment(s, WILD_TYPE, lambda a, b: -(a != b), 1) for s in sequences]
    found = levenshtein(*arrays(sequences))
    assert found.tolist() == expected
    assert found[0] == 0
    assert levenshtein(*arrays(["ACDE", WILD_TYPE + "AA"])).tolist() == [-16, -2]


@given(sequences=st.lists(RESIDUES, min_size=1, max_size=5), wild_type=RESIDUES)
@settings(max_examples=200, deadline=None)
def test_levenshtein_is_that_of_the_textbook_from_any_wild_type(sequences, wild_type):
    expected = [best_alignment(s, wild_type, lambda a, b: -(a != b), 1) for s in sequences]
    assert levenshtein(*arrays(sequences, wild_type)).tolist() == expected


def test_blosum62_is_the_best_alignment_by_the_published_matrix():
    known = matrix()
    assert all(known[a, b] == known[b, a] for a, b in known)
    assert (known["W", "W"], known["A", "R"], known["I", "V"], known["D", "E"], known["C", "E"]) == (11, -1, 3, 2, -4)
    assert max(known.values()) == 11
    sequences = variants(200, seed=1)
    expected = [best_alignment(s, WILD_TYPE, lambda a, b: known[a, b], 8) for s in sequences]
    assert blosum62(*arrays(sequences)).tolist() == expected
    substituted = WILD_TYPE.replace("K", "R").replace("M", "W")
    assert blosum62(*arrays([substituted])) == [sum(known[a, b] for a, b in zip(substituted, WILD_TYPE, strict=True))]


@given(sequences=st.lists(st.text("ASWX", max_size=9), min_size=1, max_size=3), wild_type=st.text("ASWXU", max_size=9))
@example(sequences=["XAX", "XX"], wild_type="XAXX")
@settings(max_examples=300, deadline=None)
def test_blosum62_is_the_best_alignment_from_any_wild_type(sequences, wild_type):
    known = {**matrix(), **{(a, "U"): value for (a, b), value in matrix().items() if b == "X"}}
    expected = [best_alignment(s, wild_type, lambda a, b: known[a, b], 8) for s in sequences]
    assert blosum62(*arrays(sequences, wild_type)).tolist() == expected


def test_letters_that_the_matrix_lacks_count_as_unknown():
    unknown, lacking = (WILD_TYPE.replace("K", letter) for letter in "XU")
    assert blosum62(*arrays([unknown])) == blosum62(*arrays([lacking]))


def test_what_all_sequences_share_with_the_wild_type_does_not_matter(monkeypatch):
    everything = arrays(variants(100, seed=2))
    quickly = blosum62(*everything)
    monkeypatch.setattr(baselines, "common_ends", lambda *_: (0, 0))
    monkeypatch.setattr(baselines, "_ENTRIES", 1000)
    assert blosum62(*everything).tolist() == quickly.tolist()
