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

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
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
        (("--acquisition", "thompson"), "--acquisition thompson is of one experiment and not of several"),
        (("--acquisition", "expected-improvement"), "take greedy or ucb"),
        (("--spread",), "--spread is of one experiment and not of several experiments: leave it out"),
        (("--figure", "f.html"), "--figure shows a plate of one experiment"),
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
