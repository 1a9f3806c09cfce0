"""Which rows train and which judge, for every protocol; and why a task can't have one."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.flip import GB1_WILD_TYPE
from datasets.tasks.registry import find_task
from datasets.validation.auto import Auto, Facts, choose, find_facts
from datasets.validation.mutational_load import WithoutRise
from datasets.validation.protocols import Fold, Holdout, KFold, RepeatedKFold, Validation, n_validated
from datasets.validation.rounds import Rounds
from datasets.validation.shifted import ByPosition, Shifted, find_shift
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import Row, write_zip

ONE, TWO = "synthetic_one_vs_rest", "synthetic_two_vs_rest"
SITES = (38, 39, 40, 53)
RESIDUES = "ACEFHIKLMNPQRSTWY"  # without those of the wild type at the sites


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedSplit]:
    cache = tmp_path_factory.mktemp("prepared")
    return lambda name: prepare(find_task(name), data_dir=None, cache_dir=cache, announce=lambda _: None)


def folds(protocol: Validation, split: PreparedSplit, name: str) -> tuple[Fold, ...]:
    found = protocol.folds(split, find_task(name))
    assert len(found) == protocol.n_folds_in_all
    for fold in found:
        assert fold.train.dtype == fold.validation.dtype == np.int64
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.validation) > 0).all()
        assert not np.intersect1d(fold.train, fold.validation).size
    return found


def rows(folds: tuple[Fold, ...]) -> list[list[int]]:
    return [fold.validation.tolist() for fold in folds]


def every(parts: list[list[int]]) -> list[int]:
    return [row for part in parts for row in part]


def mutant(*changes: tuple[int, str]) -> str:
    sequence = list(GB1_WILD_TYPE)
    for site, residue in changes:
        sequence[site] = residue
    return "".join(sequence)


def singles(n: int) -> list[str]:
    return [mutant(change) for change in [*product(SITES, RESIDUES)][:n]]


def doubles(n: int) -> list[str]:
    return [mutant((38, a), (39, b)) for a, b in [*product(RESIDUES, RESIDUES)][:n]]


def triples(n: int) -> list[str]:
    return [mutant((38, a), (39, b), (40, "W")) for a, b in [*product(RESIDUES, RESIDUES)][:n]]


def table(known: list[str], test: list[str]) -> list[Row]:
    """Rows whose targets count up; every fifth that is not test data is validation."""
    parts = [(sequence, "train", str(i % 5 == 4)) for i, sequence in enumerate(known)]
    return [
        (sequence, f"{i}", part, is_validation)
        for i, (sequence, part, is_validation) in enumerate([*parts, *((s, "test", "") for s in test)])
    ]


def prepared(workplace: Workplace, known: list[str], test: list[str], split: str = "two_vs_rest") -> PreparedSplit:
    write_zip(workplace.data, table(known, test), split)
    return workplace.prepare(f"gb1_{split}")


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_kfold_validates_every_row_once(synthetic: Any, n_folds: int) -> None:
    split = synthetic(TWO)
    found = folds(KFold(n_folds=n_folds, seed=0), split, TWO)
    n = len(split.target)
    assert sorted(every(rows(found))) == list(range(n))
    assert all(len(fold.train) + len(fold.validation) == n for fold in found)
    sizes = [len(fold.validation) for fold in found]
    assert max(sizes) - min(sizes) <= 1
    assert n_validated(found) == n
    assert rows(folds(KFold(n_folds=n_folds, seed=0), split, TWO)) == rows(found)
    assert rows(folds(KFold(n_folds=n_folds, seed=1), split, TWO)) != rows(found)


def test_the_folds_of_a_seed_never_change(synthetic: Any) -> None:
    """What an exported experiment can be checked by; a new rule needs a new class."""
    assert rows(folds(KFold(n_folds=5, seed=0), synthetic(ONE), ONE))[0][:8] == [5, 12, 16, 23, 24, 28, 30, 33]


def test_equal_sequences_stay_together(workplace: Workplace) -> None:
    split = prepared(workplace, singles(20) * 3, doubles(5))
    for fold in folds(KFold(n_folds=4, seed=0), split, "gb1_two_vs_rest"):
        train, validation = ({split.residues[row].tobytes() for row in part} for part in (fold.train, fold.validation))
        assert len(validation) == 5
        assert not train & validation


def test_repeats_differ_and_validate_every_row_as_often(synthetic: Any) -> None:
    found = folds(RepeatedKFold(n_folds=4, n_repeats=3, seed=0), synthetic(ONE), ONE)
    n = len(synthetic(ONE).target)
    repeats = [rows(found[first : first + 4]) for first in (0, 4, 8)]
    for repeat in repeats:
        assert sorted(every(repeat)) == list(range(n))
    assert repeats[0] != repeats[1] != repeats[2] != repeats[0]
    assert n_validated(found) == n


def test_shifted_validates_the_highest_number_of_mutations(synthetic: Any) -> None:
    split = synthetic(TWO)  # the wild type, 304 single and 600 double mutants
    [fold] = folds(Shifted(fraction=0.2), split, TWO)
    assert fold.train.tolist() == list(range(305))
    assert fold.validation.tolist() == list(range(305, 905))


def test_few_of_the_most_mutated_take_the_next_along(workplace: Workplace) -> None:
    known = [GB1_WILD_TYPE, *singles(30), *doubles(25), *triples(5)]
    split = prepared(workplace, known, [mutant(*((site, "W") for site in SITES))] * 3)
    [fold] = folds(Shifted(fraction=0.2), split, "gb1_two_vs_rest")
    assert fold.validation.tolist() == list(range(31, 61))


def test_shifted_validates_the_fittest_where_test_is_fitter(workplace: Workplace) -> None:
    split = prepared(workplace, [*singles(30), *doubles(20)], triples(5), split="low_vs_high")
    [fold] = folds(Shifted(fraction=0.3), split, "gb1_low_vs_high")
    assert fold.validation.tolist() == list(range(35, 50))
    assert split.target[fold.train].max() < split.target[fold.validation].min()


def test_equal_fitness_is_not_divided(workplace: Workplace) -> None:
    known = [*singles(30), *doubles(20)]
    equal = [(sequence, "7", part, validation) for sequence, _, part, validation in table(known, triples(5))]
    write_zip(workplace.data, [*equal[:20], *table(known, triples(5))[20:]], "low_vs_high")
    [fold] = folds(Shifted(fraction=0.6), workplace.prepare("gb1_low_vs_high"), "gb1_low_vs_high")
    assert fold.validation.tolist() == list(range(20, 50))
    write_zip(workplace.data, [*equal[:30], *table(known, triples(5))[30:]], "low_vs_high")
    with pytest.raises(UserError, match="shifted leaves 0 training sequences of gb1_low_vs_high"):
        Shifted(fraction=0.7).folds(workplace.prepare("gb1_low_vs_high"), find_task("gb1_low_vs_high"))


def test_no_training_variant_is_mutated_at_a_held_out_position(synthetic: Any) -> None:
    split = synthetic(TWO)
    wild = np.frombuffer((find_task(TWO).wild_type or "").encode(), dtype=np.uint8)
    mutated = split.residues != wild
    found = folds(ByPosition(n_folds=4, seed=0), split, TWO)
    held_out = [np.flatnonzero(mutated.any(axis=0) & ~mutated[fold.train].any(axis=0)) for fold in found]
    assert sorted(np.concatenate(held_out).tolist()) == list(range(8, 24))
    assert [len(positions) for positions in held_out] == [4] * 4
    for fold, positions in zip(found, held_out, strict=True):
        assert (mutated[fold.validation][:, positions].any(axis=1)).all()
        assert 0 in fold.train  # the wild type
    # A double mutant may be in two folds.
    assert n_validated(found) == 904 < sum(len(fold.validation) for fold in found)


@pytest.mark.parametrize(
    ("protocol", "name", "n", "sentence"),
    [
        (
            KFold(n_folds=5, seed=0),
            "gb1_two_vs_rest",
            19,
            "has 19 sequences in train and validation together, kfold of 5",
        ),
        (
            RepeatedKFold(n_folds=5, n_repeats=2, seed=0),
            "gb1_two_vs_rest",
            19,
            "needs at least 20: use validation=holdout",
        ),
        (Shifted(fraction=0.2), "gb1_two_vs_rest", 19, "19 sequences"),
        (ByPosition(n_folds=2, seed=0), "gb1_two_vs_rest", 19, "19 sequences"),
        (KFold(n_folds=8, seed=0), "gb1_two_vs_rest", 20, "expected at most 6 folds"),
        (Shifted(fraction=0.2), "gb1_two_vs_rest", 40, "one mutation class only"),
        (Shifted(fraction=0.2), "gb1_sampled", 40, "has no shift for validation=shifted to repeat"),
        (ByPosition(n_folds=4, seed=0), "gb1_two_vs_rest", 40, "more than the 3 mutated positions"),
        (ByPosition(n_folds=2, seed=0), "gb1_two_vs_rest", 22, "by_position of 2 leaves 5 training sequences"),
        (ByPosition(n_folds=2, seed=0), "meltome_mixed", 40, "has no wild type, which by_position of 2 needs"),
        (Shifted(fraction=0.2), "meltome_mixed", 40, "use validation=kfold"),
    ],
)
def test_what_a_task_cannot_carry_is_refused_with_the_reason(
    workplace: Workplace, protocol: Validation, name: str, n: int, sentence: str
) -> None:
    test = singles(60)[40:] if name == "gb1_sampled" else doubles(20)
    dataset, _, split = name.partition("_")
    write_zip(workplace.data, table(singles(n), test), "mixed_split" if split == "mixed" else split, dataset)
    with pytest.raises(UserError, match=sentence) as error:
        protocol.folds(workplace.prepare(name), find_task(name))
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: KFold(n_folds=1, seed=0), "n_folds is 1, expected at least 2"),
        (lambda: RepeatedKFold(n_folds=5, n_repeats=0, seed=0), "n_repeats is 0, expected at least 1"),
        (lambda: Shifted(fraction=1.0), "fraction is 1.0, expected between 0 and 1"),
        (lambda: ByPosition(n_folds=2, seed=-1), "seed is -1, expected at least 0"),
        (lambda: KFold(n_folds=1001, seed=0), "n_folds is 1001, expected at most 1000"),
        (lambda: ByPosition(n_folds=1001, seed=0), "n_folds is 1001, expected at most 1000"),
    ],
)
def test_arguments_are_checked(build: Callable[[], Validation], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


def test_the_shift_is_found_in_the_sequences(workplace: Workplace) -> None:
    task = find_task("gb1_two_vs_rest")
    assert find_shift(prepared(workplace, singles(40), doubles(40)), task) == "mutations"
    # A few variants with stop codons carry the wild type's sequence.
    assert find_shift(prepared(workplace, singles(40), [GB1_WILD_TYPE, *doubles(40)]), task) == "mutations"
    assert find_shift(prepared(workplace, [*singles(30), *doubles(10)], doubles(50)[10:]), task) == "none"
    assert find_shift(prepared(workplace, doubles(40), singles(40)), task) == "none"


FACTS = {"n_test": 1000, "shift": "mutations", "mutations": None, "test_mutations": None}


@pytest.mark.parametrize(
    ("n_train", "n_validation", "shown"),
    [(2691, 299, "holdout"), (381, 43, "kfold of 5"), (25, 3, "kfold of 5"), (12, 3, "holdout")],
)
def test_auto_trusts_a_large_validation_part_alone(n_train: int, n_validation: int, shown: str) -> None:
    assert choose(Facts(n_train=n_train, n_validation=n_validation, **FACTS)).shown == shown


@pytest.mark.parametrize(
    ("shift", "test_mutations", "shown"),
    [
        ("mutations", {2: 9, 3: 5}, "kfold of 5, no rise with mutations"),
        ("mutations", {4: 14}, "kfold of 5"),  # nothing to rise with
        ("none", {2: 9, 3: 5}, "kfold of 5"),
        ("fitness", {2: 9, 3: 5}, "kfold of 5"),
    ],
)
def test_auto_asks_for_no_rise_where_test_variants_have_more_mutations(
    shift: str, test_mutations: dict[int, int], shown: str
) -> None:
    facts = {**FACTS, "shift": shift, "mutations": {1: 500}, "test_mutations": test_mutations}
    chosen = choose(Facts(n_train=400, n_validation=100, **facts))
    assert chosen.shown == shown
    again = choose(Facts(n_train=4000, n_validation=1000, **facts))
    assert again.shown == shown.replace("kfold of 5", "holdout")


def test_without_rise_divides_as_the_protocol_that_it_wraps(synthetic: Any) -> None:
    inner = KFold(n_folds=3, seed=2)
    wrapped = WithoutRise(protocol=inner, most=0.2)
    assert wrapped.n_folds_in_all == 3
    assert rows(folds(wrapped, synthetic(ONE), ONE)) == rows(folds(inner, synthetic(ONE), ONE))
    assert wrapped.tree["protocol"] == inner.tree
    assert WithoutRise(protocol=Rounds(n_rounds=3), most=0.2).n_folds_in_all == 2
    for arguments, sentence in (
        ({"protocol": wrapped, "most": 0.2}, "another"),
        ({"protocol": inner, "most": 2}, "most"),
        ({"protocol": Auto(), "most": 0.2}, "protocol is 'auto', whose folds depend on the split"),
        ({"protocol": Rounds(), "most": 0.2}, "protocol is 'rounds', whose folds depend on the split"),
    ):
        with pytest.raises(ValueError, match=sentence):
            WithoutRise(**arguments)


def test_auto_knows_of_a_split_what_can_be_known(synthetic: Any) -> None:
    facts = find_facts(synthetic(TWO), find_task(TWO))
    assert (facts.n_train + facts.n_validation, facts.n_test) == (905, 2000)
    assert facts.shift == "mutations"
    assert facts.mutations == {0: 1, 1: 304, 2: 600}
    assert facts.test_mutations == {3: 1000, 4: 1000}


def test_auto_divides_as_what_it_chooses(synthetic: Any) -> None:
    chosen = Auto().resolve(synthetic(ONE), find_task(ONE))
    kfold = {"_target_": "datasets.validation.KFold", "n_folds": 5, "seed": 0}
    assert chosen.tree == {"_target_": "datasets.without_rise.WithoutRise", "protocol": kfold, "most": 0.1}
    assert rows(Auto().folds(synthetic(ONE), find_task(ONE))) == rows(folds(chosen, synthetic(ONE), ONE))
    with pytest.raises(ValueError, match="auto has to be resolved"):
        _ = Auto().n_folds_in_all
    assert Holdout().tree == {"_target_": "datasets.validation.Holdout"}


@pytest.mark.parametrize(
    ("name", "shift", "shifted"),
    [
        ("gb1_one_vs_rest", "mutations", None),
        ("gb1_two_vs_rest", "mutations", (28, 396)),
        ("gb1_three_vs_rest", "mutations", (424, 2566)),
        ("gb1_low_vs_high", "fitness", (4071, 1018)),
        ("gb1_sampled", "none", None),
        ("aav_two_vs_many", "mutations", (533, 10833)),
    ],
)
def test_flips_splits(
    prepare_flip: Callable[[str], PreparedSplit], name: str, shift: str, shifted: tuple[int, int] | None
) -> None:
    split = prepare_flip(name)
    if split.label == "FLIP's file" and name.startswith("aav"):
        pytest.skip("these numbers are those of another file than FLIP's own")
    assert find_shift(split, find_task(name)) == shift
    assert sorted(every(rows(folds(KFold(n_folds=5, seed=0), split, name)))) == list(range(len(split.target)))
    if shifted is None:
        with pytest.raises(UserError, match="use validation=kfold"):
            Shifted(fraction=0.2).folds(split, find_task(name))
    else:
        [fold] = folds(Shifted(fraction=0.2), split, name)
        assert (len(fold.train), len(fold.validation)) == shifted
