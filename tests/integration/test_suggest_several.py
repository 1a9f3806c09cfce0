"""The next plate by several properties: picked from the fronts in order, unlike each other, or by what is required."""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import search
from datasets.common.errors import UserError
from datasets.sequences.codes import as_bytes
from datasets.tasks.synthetic import WILD_TYPE
from search.experiments.experiment import load_experiment
from search.request.inputs import load_split
from search.suggestion.acquisition import uniform_draws
from search.suggestion.several import PropertiesPlate
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants, write
from tests.integration import test_predict_several
from tests.integration.test_predict_several import EXPERIMENTS, rows_of

folder = test_predict_several.folder
Rows = list[dict[str, str]]
ALL = {text: sequence for text, sequence, _ in variants()}
MEASURED = {text for i, text in enumerate(list(ALL)[::5]) if i % 5 != 1 or i % 7 >= 2}


@pytest.fixture(scope="module")
def everything(folder: Path) -> Path:
    write(folder / "all.csv", "name,mutant", [(f"={i}", text) for i, text in enumerate(ALL)])
    return folder


def written(folder: Path, name: str = "plate.csv") -> Rows:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_is_picked_from_the_fronts_in_their_order(everything: Path, here: Program) -> None:
    words = ("--input", "all.csv", "--batch", "300", "--output", "plate.csv", "--names", "--no-train")
    answer = here("suggest", *EXPERIMENTS, *words, cwd=everything)
    assert answer.status == 0, answer
    rows = written(everything)
    ranked = rows_of(
        here(
            "predict",
            *EXPERIMENTS,
            "--input",
            "all.csv",
            "--exclude-measured",
            "--names",
            "--top",
            "300",
            cwd=everything,
        )
    )
    for column in ("mutations", "name", "front", "outside_activity", "outside_stability"):
        assert [row[column] for row in rows] == [row[column] for row in ranked], column
    for column in ("crowding", "prediction_activity", "low_stability", "std_calibrated_activity"):
        own = [[float(row[column] or "nan") for row in some] for some in (rows, ranked)]
        np.testing.assert_allclose(own[0], own[1], rtol=1e-4, err_msg=column)
    assert not {row["mutations"] for row in rows} & MEASURED
    assert "1,080 candidates in" in answer.out
    assert f"{len(MEASURED)} were measured for some property already and are left out" in answer.out
    assert f"(front 1: {sum(row['front'] == '1' for row in rows)}, front 2: " in answer.out


def test_unlike_candidates_controls_and_wells(everything: Path, here: Program) -> None:
    words = ("--min-distance", "2", "--max-per-position", "20", "--batch", "30", "--plate", "96", "--controls", "4")
    words = ("--input", "all.csv", *words, "--output", "plate.csv", "--no-train")
    answer = here("suggest", *EXPERIMENTS, *words, cwd=everything)
    assert answer.status == 0, answer
    rows = written(everything)
    candidates = [row for row in rows if row["role"] == "candidate"]
    texts = [row["sequence"] for row in candidates]
    assert min(sum(a != b for a, b in zip(one, two, strict=True)) for one in texts for two in texts if one != two) >= 2
    per_position = [word[1:-1] for row in candidates for word in row["mutations"].split(":")]
    assert max(map(per_position.count, per_position)) <= 20
    controls = {row["well"]: row for row in rows if row["role"] == "control"}
    assert list(controls) == ["A12", "B12", "C12", "D12"]
    assert controls["A12"]["mutations"] == "WT"
    assert controls["A12"]["sequence"] == WILD_TYPE
    assert controls["A12"]["rank"] == controls["A12"]["front"] == ""
    assert float(controls["A12"]["prediction_activity"]) == pytest.approx(
        float(search.predict(everything / EXPERIMENTS[0], [WILD_TYPE], no_distance=True)["prediction"][0]), rel=1e-5
    )
    # The best of each property: two variants, of which the last stands in no part of a test set.
    assert len({row["sequence"] for row in controls.values()}) == 3
    fronts = [int(row["front"]) for row in candidates]
    assert fronts == sorted(fronts)


def test_what_is_required_picks(everything: Path, here: Program) -> None:
    words = ("--input", "all.csv", "--batch", "20", "--output", "plate.csv", "--require", "stability>=-0.2")
    answer = here("suggest", *EXPERIMENTS, *words, "--no-train", cwd=everything)
    assert answer.status == 0, answer
    rows = written(everything)
    ranked = rows_of(
        here("predict", *EXPERIMENTS, *words[:2], *words[-2:], "--exclude-measured", "--top", "20", cwd=everything)
    )
    assert [row["mutations"] for row in rows] == [row["mutations"] for row in ranked]
    expected = sum(float(row["p_required"]) for row in rows)
    assert f"{expected:.1f} of 20 candidates are expected to" in answer.out
    # Of one experiment too.
    assert here("suggest", EXPERIMENTS[1], *words, "--quiet", cwd=everything).status == 0
    chances = [float(row["p_required"]) for row in written(everything)]
    assert chances == sorted(chances, reverse=True)
    assert list(written(everything)[0])[6:8] == ["p_required", "prediction"]


@pytest.mark.slow
def test_the_pass_goes_on_where_too_few_fit(everything: Path, here: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--input", "all.csv", "--batch", "40", "--min-distance", "3", "--output", "plate.csv", "--quiet")
    assert here("suggest", *EXPERIMENTS, *words, cwd=everything).status == 0
    whole = (everything / "plate.csv").read_bytes()
    monkeypatch.setattr("search.suggestion.several.LEAST", 7)
    monkeypatch.setattr("search.suggestion.several._POOL_PER_PICK", 0)
    assert here("suggest", *EXPERIMENTS, *words, cwd=everything).status == 0
    assert (everything / "plate.csv").read_bytes() == whole
    monkeypatch.undo()
    answer = here("suggest", *EXPERIMENTS, *words[:-1], "--batch", "1000", cwd=everything)
    assert "no other candidate keeps to what was asked of the batch" in answer.out


def test_thompson_picks_from_the_fronts_of_one_draw_of_each(everything: Path, here: Program) -> None:
    words = ("--input", "all.csv", "--batch", "40", "--acquisition", "thompson", "--output", "plate.csv", "--quiet")
    assert here("suggest", *EXPERIMENTS, *words, cwd=everything).status == 0
    rows = written(everything)
    assert [int(row["front"]) for row in rows] == sorted(int(row["front"]) for row in rows)
    assert here("suggest", *reversed(EXPERIMENTS), *words, cwd=everything).status == 0
    assert {row["mutations"] for row in written(everything)} == {row["mutations"] for row in rows}
    assert here("suggest", *EXPERIMENTS, *words, "--seed", "1", cwd=everything).status == 0
    assert {row["mutations"] for row in written(everything)} != {row["mutations"] for row in rows}
    assert json.loads((everything / "plate.json").read_text())["choice"]["seed"] == 1
    # What was drawn is what one of the models predicts: the fronts are those of nothing that all candidates share.
    draws = draws_by_hand(everything, [row["sequence"] for row in rows])
    first = [row for row in range(len(rows)) if rows[row]["front"] == "1"]
    for row in range(len(rows)):
        dominated = ((draws >= draws[row]).all(axis=1) & (draws > draws[row]).any(axis=1)).any()
        assert dominated == (row not in first)


def draws_by_hand(folder: Path, sequences: Sequence[str]) -> np.ndarray:
    """(n, 2): what the model of each property predicts that its draw falls on."""
    columns = []
    for path, name in zip(EXPERIMENTS, ("activity", "stability"), strict=True):
        members = search.load_experiment(folder / path).predict_members(sequences)
        draws = uniform_draws([one.encode() for one in sequences], 0, name)
        columns.append(members[(draws * len(members)).astype(int), np.arange(len(sequences))])
    return np.stack(columns, axis=1)


def test_expected_improvement_is_that_of_the_measured_front(everything: Path, here: Program) -> None:
    words = ("--input", "all.csv", "--batch", "20", "--output", "plate.csv", "--acquisition", "expected-improvement")
    answer = here("suggest", *EXPERIMENTS, *words, cwd=everything)
    assert answer.status == 0, answer
    assert "Picked by expected hypervolume improvement: 20 candidates" in answer.out
    rows = written(everything)
    alone = [float(row["improvement"]) for row in rows]
    assert alone[0] == max(alone) > 0
    assert alone != sorted(alone, reverse=True)  # those after the first count what it leaves
    assert here("suggest", *reversed(EXPERIMENTS), *words, cwd=everything).status == 0
    again = {row["mutations"]: float(row["improvement"]) for row in written(everything)}
    shared = [row for row in rows if row["mutations"] in again]
    assert len(shared) > 15
    for row in shared:  # the points lie elsewhere, with the properties in another order
        assert again[row["mutations"]] == pytest.approx(float(row["improvement"]), rel=0.2)
    # Of one property, under a requirement, it is the expected improvement times the chance.
    assert here("suggest", *EXPERIMENTS, *words, "--require", "stability>=-9", cwd=everything).status == 0
    rows = written(everything)
    assert {float(row["p_required"]) for row in rows} == {1.0}
    known = []
    for path in EXPERIMENTS:
        task = load_experiment(everything / path).task(everything / "t.csv")
        split = load_split(task, None, everything / "runs", lambda sentence: None)
        known.append(dict(zip(as_bytes(split.residues, split.lengths), split.target.tolist(), strict=True)))
    best = max(value for text, value in known[0].items() if text in known[1])  # of those that have both
    for row in rows:
        mean, size = float(row["prediction_activity"]), float(row["std_calibrated_activity"] or "nan")
        expected = size * (norm.pdf(z := (mean - best) / size) + z * norm.cdf(z))
        assert np.isnan(size) or float(row["improvement"]) == pytest.approx(expected, rel=0.15, abs=1e-3)


def test_a_figure_shows_the_properties_against_each_other(everything: Path, here: Program) -> None:
    words = ("--input", "all.csv", "--batch", "9", "--output", "plate.csv")
    for name, more in (("several.html", EXPERIMENTS[1:]), ("one.html", ())):
        required = () if more else ("--require", "activity>=0.1")
        call = ("suggest", EXPERIMENTS[0], *more, *words, *required, "--figure", name)
        answer = here(*call, cwd=everything)
        assert answer.status == 0, answer
        assert f"Figure: {name}" in answer.out
        page = (everything / name).read_text()
        assert "predicted activity" in page
        assert ("predicted stability" if more else "chance to be what is required") in page
        assert written(everything)[0]["mutations"] in page
    assert "by non-domination and crowding distance" in (everything / "several.html").read_text()
    for name in ("f.svg", "f.png"):
        assert here("suggest", *EXPERIMENTS, *words, "--quiet", "--figure", name, cwd=everything).status == 0
    assert "predicted stability" in (everything / "f.svg").read_text()


def test_mutations_that_are_good_for_either_are_recombined(everything: Path, here: Program) -> None:
    words = ("--recombine", "6", "--max-mutations", "2", "--batch", "5", "--output", "plate.csv")
    answer = here("suggest", *EXPERIMENTS, *words, cwd=everything)
    assert answer.status == 0, answer
    mutations = {word for row in written(everything) for word in row["mutations"].split(":")}
    assert 1 < len(mutations) <= 6
    known = json.loads((everything / "plate.json").read_text())
    assert (known["candidates"]["recombine"], known["candidates"]["max_mutations"]) == (6, 2)


def test_the_file_beside_it_says_what_it_was_made_of_and_the_bytes_are_the_same_again(
    everything: Path, here: Program
) -> None:
    words = ("--mutagenesis", "sites:10,13", "--batch", "12", "--acquisition", "ucb", "--beta", "0.5", "--quiet")
    outputs = ("--require", "activity>=0.1", "--output", "plate.csv")
    assert here("suggest", *EXPERIMENTS, *words, *outputs, cwd=everything).status == 0
    both = [(everything / name).read_bytes() for name in ("plate.csv", "plate.json")]
    assert here("suggest", *EXPERIMENTS, *words, *outputs, cwd=everything).status == 0
    assert both == [(everything / name).read_bytes() for name in ("plate.csv", "plate.json")]
    known = json.loads(both[1])
    assert [one["property"] for one in known["experiments"]] == ["activity", "stability"]
    for one, path in zip(known["experiments"], EXPERIMENTS, strict=True):
        assert one["checksum"] == (everything / path).read_text().splitlines()[-1].split("checksum: ")[1]
        assert one["data"]["sha256"] == search.load_experiment(everything / path).provenance.data_hash
    assert known["plate"]["sha256"] == hashlib.sha256(both[0]).hexdigest()
    assert known["choice"]["require"] == ["activity>=0.1"]
    assert known["choice"]["beta"] == 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--acquisition", "expected-improvement", "--require", "stability>=0", "--require", "activity>=0"),
            "--acquisition expected-improvement is of a property without a requirement",
        ),
        (
            ("--acquisition", "thompson", "--require", "stability>=0", "--require", "activity>=0"),
            "--acquisition thompson is of a property without a requirement",
        ),
        (("--spread",), "--spread is of one experiment and not of several experiments: leave it out"),
        (("--figure", "f.pdf"), "f.pdf"),
        (("--figure", "t.csv"), "t.csv"),
        (("--require", "colour>=1"), "as no property is called here"),
        (("--require", "x"), "expected a property and its bound"),
        (("--output", "t.csv"), "t.csv"),
    ],
)
def test_what_makes_no_plate_is_refused(words: Sequence[str], sentence: str, everything: Path, here: Program) -> None:
    before = sorted(os.listdir(everything))
    call = ("suggest", *EXPERIMENTS, "--input", "all.csv", "--batch", "5", "--output", "new.csv", *words)
    assert sentence in here(*call, cwd=everything).refusal()
    assert sorted(os.listdir(everything)) == before


def test_python_picks_what_the_command_picks(everything: Path, here: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(everything)
    words = ("--input", "all.csv", "--batch", "9", "--controls", "2", "--output", "plate.csv", "--quiet")
    assert here("suggest", *EXPERIMENTS, *words, cwd=everything).status == 0
    plate = search.suggest(list(EXPERIMENTS), batch=9, input="all.csv", controls=2, quiet=True)
    assert isinstance(plate, PropertiesPlate)
    assert [well["sequence"] for well in plate.wells] == [row["sequence"] for row in written(everything)]
    table = pd.DataFrame(plate.wells)
    assert table["prediction_stability"].notna().all()
    assert [well["rank"] for well in plate.candidates] == list(range(1, 8))
    with pytest.raises(UserError, match="is given twice"):
        search.suggest([EXPERIMENTS[0], EXPERIMENTS[0]], batch=9, input="all.csv")
