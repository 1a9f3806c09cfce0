"""The parts of the next plate: wells, acquisitions, the pick, recombination, and what a request may be."""

import csv
import io
import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import kstest, norm

from datasets.candidates.recombination import MeasuredMutation, measured_mutations, recombined
from datasets.common.errors import UserError
from datasets.tasks.registry import find_task
from search.request.suggest_request import SuggestRequest
from search.suggestion.acquisition import acquired, asks_deviation, uniform_draws
from search.suggestion.figure import Scatter, draw_panels
from search.suggestion.files import as_csv
from search.suggestion.picker import Diversity, Picker
from search.suggestion.plate import Well, filled
from search.suggestion.pool import unpredicted
from search.suggestion.wells import places

WILD_TYPE = "MKTAY"
TASK = replace(find_task("synthetic_two_vs_rest"), wild_type=WILD_TYPE)


def request(**changes):
    return SuggestRequest(**{"experiment": "e.yaml", "batch": 8, "mutagenesis": "singles", **changes})


def test_whole_numbers_of_numpy_are_whole_numbers():
    """A plate's file, in which they are noted, takes none of NumPy's."""
    found = request(batch=np.int64(9), seed=np.uint8(3), plate=np.int64(96), controls=np.int32(1))
    whole = [found.batch, found.seed, found.plate, found.controls]
    assert (whole, {type(one) for one in whole}) == ([9, 3, 96, 1], {int})


def test_wells_go_row_by_row_and_controls_stand_at_the_top_of_the_last_column():
    found = places(96, 3, 96)
    assert [one.well for one in found[:12]] == [f"A{column}" for column in range(1, 13)]
    assert [one.well for one in found[12:14]] == ["B1", "B2"]
    assert {one.well: one.control for one in found if one.control is not None} == {"A12": 0, "B12": 1, "C12": 2}
    assert len({one.well for one in found}) == 96


def test_each_plate_has_its_controls():
    found = places(384 + 30, 20, 384)
    of_plate = {number: [one for one in found if one.plate == number] for number in (1, 2)}
    assert {number: len(some) for number, some in of_plate.items()} == {1: 384, 2: 30}
    controls = [{one.well: one.control for one in some if one.control is not None} for some in of_plate.values()]
    assert controls[0] == controls[1]
    assert controls[0]["P24"] == 15
    assert controls[0]["A23"] == 16


def test_a_part_of_a_plate_has_the_controls_where_a_whole_one_has_them():
    found = places(100, 2, 96)
    last = [one for one in found if one.plate == 2]
    assert [one.well for one in last] == ["A1", "A2", "A12", "B12"]
    assert [one.control for one in last] == [None, None, 0, 1]


def test_without_plates_the_controls_come_last():
    found = places(5, 2, None)
    assert [one.control for one in found] == [None, None, None, 0, 1]
    assert {one.well for one in found} == {None}


def test_more_controls_than_a_column_go_on_in_the_one_before():
    wells = {one.control: one.well for one in places(96, 10, 96) if one.control is not None}
    assert [wells[number] for number in (0, 7, 8, 9)] == ["A12", "H12", "A11", "B11"]


def test_acquisitions_are_what_their_names_say():
    prediction = np.array([0.0, 1.0, 2.5], dtype=np.float32)
    deviation = np.array([2.0, 0.5, 0.25])
    assert acquired("greedy", prediction, None).tolist() == [0.0, 1.0, 2.5]
    assert acquired("ucb", prediction, deviation, beta=2.0).tolist() == [4.0, 2.0, 3.0]
    draws = norm.cdf([1.0, -2.0, 0.0])
    assert acquired("thompson", prediction, deviation, draws=draws) == pytest.approx([2.0, 0.0, 2.5])
    z = (prediction - 1.5) / deviation
    improvement = deviation * (z * norm.cdf(z) + norm.pdf(z))
    found = acquired("expected-improvement", prediction, deviation, best=1.5)
    assert np.exp(found) == pytest.approx(improvement)


def test_expected_improvement_orders_what_is_hopeless_and_what_is_certain():
    prediction = np.array([-1e6, -3e3, -39.0, -2.0, 0.0, 30.0, 1e5])
    found = acquired("expected-improvement", prediction, np.ones(7))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(math.log(1e5))
    without = acquired("expected-improvement", np.array([1.0, 2.0]), np.zeros(2), best=0.5)
    assert np.exp(without) == pytest.approx([0.5, 1.5])


def test_of_several_models_a_draw_is_what_one_of_them_predicts():
    members = np.array([[0.0, 1.0, 2.0, 3.0], [10.0, 11.0, 12.0, 13.0]], dtype=np.float32)
    found = acquired("thompson", members.mean(axis=0), members=members, draws=np.array([0.1, 0.49, 0.51, 0.9]))
    assert found.tolist() == [0.0, 1.0, 12.0, 13.0]
    weights = np.array([0.9, 0.1])
    drawn = acquired(
        "thompson", np.zeros(4), members=members, weights=weights, draws=np.array([0.1, 0.89, 0.91, 0.9999])
    )
    assert drawn.tolist() == [0.0, 1.0, 12.0, 13.0]
    assert [asks_deviation("thompson", n) for n in (1, 2)] == [True, False]


def test_draws_are_uniform_and_each_sequence_has_its_own():
    sequences = [f"SEQ{number}".encode() for number in range(4000)]
    drawn = uniform_draws(sequences, 1)
    assert kstest(drawn, "uniform").pvalue > 1e-3
    assert drawn[:5].tolist() == uniform_draws(sequences[:5], 1).tolist()
    assert abs(np.corrcoef(drawn, uniform_draws(sequences, 2))[0, 1]) < 0.1


def test_a_batch_keeps_to_its_positions_and_distances():
    picker = Picker(3, Diversity(max_per_position=1, min_distance=2))
    assert picker.take("AKTAY", [0])
    assert not picker.take("AKTAW", [0, 4])  # position 0 again
    assert not picker.take("MKTAY", [])  # differs in one residue
    assert picker.take("MKTWW", [3, 4])
    assert not picker.take("KTAY", [])  # of another length, one deletion away from the first
    assert picker.take("MRR", [1, 2])
    assert picker.is_full
    assert not picker.take("WWWWWWWW", [])


def test_measured_mutations_are_in_the_order_of_their_means():
    rows = ["MKTAY", "MKTAW", "MKTAW", "AKTAW", "AKTAY", "MKXAY"]
    residues = np.array([list(row.encode()) for row in rows], dtype=np.uint8)
    target = np.array([0, 1, 2, 6, -1, 9], dtype=np.float32)
    found = measured_mutations(WILD_TYPE, range(5), residues, np.full(6, 5), target)
    assert found == [
        MeasuredMutation(position=4, residue="W", mean=3.0),
        MeasuredMutation(position=0, residue="A", mean=2.5),
    ]
    assert measured_mutations(WILD_TYPE, range(4), residues, np.full(6, 5), target) == found[1:]
    assert measured_mutations("MK", range(2), residues, np.full(6, 5), target) == []


def mutations(*words):
    return [MeasuredMutation(position=int(word[:-1]), residue=word[-1], mean=0.0) for word in words]


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_recombination_makes_every_combination_once(most):
    some = mutations("0A", "2C", "2D", "4W", "3E")
    stream, n = recombined(TASK, some, most=most)
    blocks = list(stream.blocks)
    labels = [label for block in blocks for label in block.labels]
    expected = {
        ":".join(f"{WILD_TYPE[one.position]}{one.position + 1}{one.residue}" for one in sorted(chosen, key=_position))
        for size in range(1, most + 1)
        for chosen in itertools.combinations(some, size)
        if len({one.position for one in chosen}) == size
    }
    assert n == 5
    assert len(labels) == len(set(labels)) == stream.n_total
    assert set(labels) == expected
    for label, sequence in zip(labels, [one for block in blocks for one in block.sequences()], strict=True):
        differing = [f"{a}{i + 1}{b}" for i, (a, b) in enumerate(zip(WILD_TYPE, sequence, strict=True)) if a != b]
        assert ":".join(differing) == label


def _position(one):
    return one.position


def test_recombination_is_bounded_by_itself_and_refused_where_too_much_is_asked():
    task = replace(TASK, wild_type="A" * 200)
    many = [
        MeasuredMutation(position=place, residue=residue, mean=0.0) for place in range(200) for residue in "CDEFGHIKLM"
    ]
    stream, n = recombined(task, many, most=3)
    assert stream.n_total is not None
    assert 190_000 < stream.n_total <= 200_000
    assert n < len(many)
    assert recombined(task, many, most=3, n_best=4)[1] == 4
    with pytest.raises(UserError, match="name fewer mutations"):
        recombined(task, many, most=6, n_best=2000)
    with pytest.raises(UserError, match="no row for training and validation has any"):
        recombined(task, [], most=3)


def test_mutations_are_counted_from_the_first_position_of_the_wild_type():
    task = replace(TASK, first_position=24)
    stream, _ = recombined(task, mutations("0A"), most=1)
    assert [label for block in stream.blocks for label in block.labels] == ["M24A"]
    picked = [unpredicted("MKTWW", WILD_TYPE), unpredicted("MKTA", WILD_TYPE)]
    controls = [unpredicted(WILD_TYPE, WILD_TYPE)]
    wells = filled(places(4, 1, None), picked, controls, task)
    assert [(well.mutations, well.role) for well in wells] == [
        ("A27W:Y28W", "candidate"),
        ("", "candidate"),
        ("WT", "control"),
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sheet": "x"}, "--sheet goes with --input"),
        ({"sequence_column": "x"}, "--sequence-column goes with --input"),
        ({"input": "x.csv"}, "give one of them"),
        ({"mutagenesis": None}, "give one of them"),
        ({"mutagenesis": "triples"}, "'triples' is not valid"),
        ({"max_mutations": 2}, "--recombine: give both"),
        ({"names": True}, "--names goes with --input"),
        ({"format": "csv"}, "--format goes with --input"),
        ({"sum_zero_shot": True}, "--zero-shot-file"),
        ({"acquisition": "best"}, "expected greedy, ucb, thompson, expected-improvement"),
        ({"beta": 1.0}, "--acquisition ucb"),
        ({"beta": float("nan"), "acquisition": "ucb"}, "--beta nan is not valid"),
        ({"beta": -1.0, "acquisition": "ucb"}, "--beta -1.0 is not valid"),
        ({"max_per_position": 0}, "--max-per-position 0 is not valid"),
        ({"min_distance": -1}, "--min-distance -1 is not valid"),
        ({"batch": 0}, "--batch 0 is not valid"),
        ({"seed": 10**70}, "expected a whole number from 0 to 999999999"),
        ({"seed": -1}, "--seed -1 is not valid"),
        ({"batch": 10**9}, "--batch 1000000000 is not valid"),
        ({"plate": 24}, "--plate 24 is not valid: expected 96 or 384"),
        ({"controls": -1}, "--controls -1 is not valid"),
        ({"controls": 8}, "leaves the last plate 8 wells and no candidate"),
        ({"batch": 98, "plate": 96, "controls": 2}, "leaves the last plate 2 wells and no candidate"),
        ({"level": 1.0}, "--level 1.0 is not valid"),
        ({"spread": -1.0}, "--spread -1.0 is not valid"),
        ({"spread": float("nan")}, "--spread nan is not valid"),
        ({"spread": "much"}, "--spread 'much' is not valid"),
        ({"spread": True, "batch": 1001}, "--spread with --batch 1001 is not valid: expected at most 1,000"),
        ({"mutagenesis": ["singles"]}, "mutagenesis is of type list: expected a text"),
        ({"batch": "8"}, "batch is of type str: expected a whole number"),
        ({"min_distance": 2.5}, "min_distance is of type float: expected a whole number"),
        ({"mutagenesis": None, "input": ["MKT"]}, "input is of type list: expected the path of a file"),
    ],
)
def test_what_a_request_cannot_be_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        request(**changes)


def test_true_recombines_all_that_are_good_enough_and_false_nothing():
    assert request(mutagenesis=None, recombine=True).recombine == 0
    assert request(recombine=False).recombine is None
    assert request(mutagenesis="sites:3,4").mutagenesis == ("sites", (3, 4))


def test_an_aligned_sequence_that_begins_with_a_gap_is_written_as_it_is():
    values = dict.fromkeys((field.name for field in fields(Well)), None)
    well = Well(**{**values, "role": "candidate", "sequence": "-KTV", "mutations": "-1G", "outside": "", "name": "-a"})
    (row,) = csv.DictReader(io.StringIO(as_csv([well], has_names=True)))
    assert (row["sequence"], row["mutations"], row["name"]) == ("-KTV", "-1G", "'-a")


@pytest.mark.parametrize("name", ["=1+1", "+x", "-1+1", "@sum"])
def test_names_that_a_spreadsheet_would_compute_have_an_apostrophe_and_numbers_have_none(name):
    well = Well(
        rank=1,
        well="A1",
        plate=1,
        role="candidate",
        sequence="MK",
        mutations="",
        prediction=-0.5,
        low=None,
        high=None,
        std_calibrated=None,
        acquisition=-0.5,
        outside="",
        name=name,
    )
    table = as_csv([well], has_names=True)
    assert table.count("'") == 1
    assert f"'{name}" in table
    assert ",-0.5," in table
    assert name not in as_csv([well], has_names=False)


def test_draws_of_several_properties_are_their_own():
    texts = [f"MK{i}".encode() for i in range(2000)]
    plain, one, two = (uniform_draws(texts, 3, of) for of in ("", "activity", "stability"))
    assert (uniform_draws(texts[500:], 3, "activity") == one[500:]).all()
    assert max(abs(np.corrcoef([plain, one, two]) - np.eye(3)).ravel()) < 0.1
    assert kstest(two, "uniform").pvalue > 1e-3
    assert (uniform_draws(texts, 3, "x" * 500) != one).all()


def test_a_figure_counts_positions_of_each_chain(tmp_path):
    panel = Scatter(axes=("x", "y"), others=np.zeros((0, 2)), batch=np.ones((2, 2)), words=["a", "b"], best=(1, None))
    mutations = ["L:S3T:H:V10A:D2G", "H:V10C", "WT", ""]
    draw_panels([panel], mutations, [], tmp_path / "f.svg", "chains")
    text = (tmp_path / "f.svg").read_text()
    places = [text.index(f">{name}<") for name in ("H:D2", "H:V10", "L:S3")]
    assert places == sorted(places)
    draw_panels([panel], ["M-5A", "V3-:-9G"], [], tmp_path / "f.html", "one chain")
    assert '"M-5"' in (tmp_path / "f.html").read_text()
