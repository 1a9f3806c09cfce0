"""What is unlike the training rows is said to be, of sequences and of predictions."""

from dataclasses import replace

import numpy as np
import pytest

from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import residues_of
from datasets.candidates.outside import (
    LENGTH,
    MUTATIONS,
    N_COMBINATIONS,
    POSITIONS,
    RANGE,
    RESIDUES,
    Outside,
    familiar_of,
    outside_reasons,
)
from datasets.candidates.training_domain import Familiar
from datasets.common.errors import UserError
from datasets.sequences.crop import Crop
from datasets.sequences.mutation_counts import find_mutations
from datasets.task import Task
from datasets.tasks.flip import clean_flip
from datasets.tasks.registry import find_task

ANY = find_task("meltome_mixed")  # which knows of no wild type
WILD_TYPE = "ACDEFGHIKL"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
LIMIT = LengthLimit(max_length=None, max_residues=None, truncate=True)


def of_wild_type(wild_type: str) -> Task:
    return replace(ANY, wild_type=wild_type)


def bits(
    training: list[str],
    candidates: list[str],
    task: Task = ANY,
    *,
    targets: tuple[float, float] = (0.0, 1.0),
    predictions: float | list[float] = 0.5,
    limit: LengthLimit = LIMIT,
) -> list[int]:
    target = np.linspace(*targets, len(training), dtype=np.float32)
    familiar = familiar_of(*residues_of(training, clean_flip), target, task=task, crop=None, limit=limit)
    prediction = np.broadcast_to(np.float32(predictions), len(candidates))
    outside = Outside(familiar, task=task, crop=None, limit=limit)
    return outside(*residues_of(candidates, clean_flip), prediction).tolist()


def changed(text: str, **residues: str) -> str:
    """`p0="W"` puts W at position 0."""
    letters = list(text)
    for place, residue in residues.items():
        letters[int(place[1:])] = residue
    return "".join(letters)


def test_reasons_of_sequences() -> None:
    training = ["ACDEF", "AWDEF", "ACDEFG", "ACDEY"]
    candidates = ["ACDEY", "AYDEF", "AYDEFG", "AYWEF", "ACDE", "ACDEFGH", "MCDEF", "MCDEFGHI"]
    assert bits(training, candidates) == [
        0,
        0,
        0,  # the usual length is another
        POSITIONS,
        LENGTH,
        LENGTH | RESIDUES,
        RESIDUES | POSITIONS,
        LENGTH | RESIDUES,
    ]


def test_all_reasons_have_names() -> None:
    names = [outside_reasons(one) for one in range(N_COMBINATIONS)]
    assert len(set(names)) == N_COMBINATIONS == 32
    assert names[-1] == "length alphabet positions mutations range"
    assert (names[LENGTH], names[MUTATIONS], names[RANGE]) == ("length", "mutations", "range")


def test_what_the_model_does_not_see_is_outside() -> None:
    task = replace(ANY, crops={"head": Crop(stop=4)}, default_crop="head")
    candidates = ["ACDEFGH", "ACDEFGW", "AYDEFGH", "ACWEFGH", "ACDE", "AYWE", "ACD", "AC"]
    reasons = [outside_reasons(one) for one in bits(["ACDEFGH", "AWDEFGH"], candidates, task)]
    assert reasons == ["", "positions", "alphabet", "positions", "", "alphabet positions", "length", "length"]


def test_long_sequences_are_compared_as_they_are_cut() -> None:
    limit = replace(LIMIT, max_length=6)
    assert bits(["ACDEFGHIKL", "ACDE"], ["ACDEFGWWWWWWW", "ACDEFG"], limit=limit) == [0, 0]


def test_more_mutations_than_any_training_sequence_are_a_reason() -> None:
    # Every position varies and every residue is known: it is the number alone.
    singles = [changed(WILD_TYPE, **{f"p{i}": letter}) for i in range(10) for letter in "AW" if WILD_TYPE[i] != letter]
    candidates = [WILD_TYPE, changed(WILD_TYPE, p3="W"), changed(WILD_TYPE, p3="W", p4="A"), "W" * 10]
    assert bits([WILD_TYPE, *singles], candidates, of_wild_type(WILD_TYPE)) == [0, 0, MUTATIONS, MUTATIONS]
    # The most that one has counts, not what is usual.
    doubles = [*singles, changed(WILD_TYPE, p3="W", p4="A")]
    assert bits(doubles, candidates, of_wild_type(WILD_TYPE)) == [0, 0, 0, MUTATIONS]


def test_without_a_wild_type_mutations_are_no_reason() -> None:
    singles = [changed(WILD_TYPE, **{f"p{i}": "W"}) for i in range(10)]
    assert bits([WILD_TYPE, *singles], ["W" * 10], ANY) == [0]


def test_insertions_and_deletions_are_counted_as_in_training() -> None:
    wild_type = "MKVLAGHTRW"
    training = [wild_type, wild_type[:4] + wild_type[5:], wild_type[:4] + "A" + wild_type[4:]]
    candidates = [
        wild_type[:6] + wild_type[7:],  # one deletion
        wild_type[:2] + "A" + wild_type[2:],  # one insertion
        wild_type[1:] + "A",  # a deletion and an insertion: nine substitutions and more in a column by column count
        wild_type[:6] + wild_type[8:],  # two deletions, shorter than any
        "K" + wild_type[:6] + wild_type[7:],
    ]
    found = bits(training, candidates, of_wild_type(wild_type))
    assert [bool(one & MUTATIONS) for one in found] == [False, False, True, True, True]
    assert [bool(one & LENGTH) for one in found] == [False, False, False, True, False]


def test_the_number_of_mutations_is_that_of_training_whatever_the_length() -> None:
    random = np.random.default_rng(0)
    wild_type = "MKVLAGHTRWYDEQSP"

    def variant(most: int) -> str:
        letters = list(wild_type)
        for _ in range(random.integers(0, most + 1)):
            place = int(random.integers(len(letters)))
            kind = random.integers(3)
            if kind == 0:
                letters[place] = random.choice(list(LETTERS))
            elif kind == 1:
                del letters[place]
            else:
                letters.insert(place, random.choice(list(LETTERS)))
        return "".join(letters)

    training, candidates = [variant(3) for _ in range(40)], [variant(8) for _ in range(200)]
    most = find_mutations(*residues_of(training, clean_flip), wild_type).counts.max()
    own = find_mutations(*residues_of(candidates, clean_flip), wild_type).counts
    found = np.array(bits(training, candidates, of_wild_type(wild_type)))
    assert (found & MUTATIONS > 0).tolist() == (own > most).tolist()
    assert 0 < (own > most).sum() < len(own)


def test_predictions_beyond_the_training_targets_are_a_reason() -> None:
    targets = (-0.3, 2.7)  # of which float32 has neither exactly
    low, high = np.float32(-0.3), np.float32(2.7)
    predictions = [0.0, high, np.nextafter(high, np.float32(9)), 5.8, low, np.nextafter(low, np.float32(-9)), -1.0]
    found = bits([WILD_TYPE] * 5, [WILD_TYPE] * 7, targets=targets, predictions=predictions)
    assert found == [0, 0, RANGE, RANGE, 0, RANGE, RANGE]


FAMILIAR = Familiar(lengths=(3, 5), alphabet="ACD", whole="AC-", seen="ACD-", most_mutations=None, targets=(-1.0, 2.0))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("lengths", (5, 3), "lengths=[5, 3] is not valid"),
        ("lengths", (0, 3), "lengths=[0, 3] is not valid"),
        ("alphabet", "", "alphabet='' is not valid"),
        ("alphabet", "acd", "expected some of ARND"),
        ("whole", "AC*" + "C" * 90, "is not valid: expected residues"),
        ("whole", "", "whole='' is not valid"),
        ("seen", "ACDEFG", "expected 3 to 5 letters"),
        ("seen", "é---", "seen='é---' is not valid"),
        ("most_mutations", -1, "most_mutations=-1 is not valid"),
        ("targets", (2.0, 1.0), "targets=[2.0, 1.0] is not valid"),
        ("targets", (float("nan"), 1.0), "both finite"),
        ("targets", (0.0, float("inf")), "both finite"),
    ],
)
def test_what_cannot_be_of_training_rows_is_refused(name: str, value: object, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        replace(FAMILIAR, **{name: value})
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 200


def test_any_known_rows_answer_for_any_candidates() -> None:
    """What comes from a file may not fit the task: it gives reasons, and no error."""
    outside = Outside(replace(FAMILIAR, most_mutations=2), task=of_wild_type("AC"), crop=None, limit=LIMIT)
    candidates = residues_of(["A", "ACD", "WCD", "ACDEFGHI"], clean_flip)
    found = [outside_reasons(one) for one in outside(*candidates, np.float32([0, 3, 0, 0])).tolist()]
    assert found == ["length", "range", "alphabet positions", "length alphabet mutations"]
