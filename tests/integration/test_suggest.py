"""The next plate of a real search: what is picked, what is left out, its wells, its files, and the same from Python."""

import csv
import hashlib
import io
import json
import re
import shlex
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.experiments.experiment import freeze, load_experiment
from search.suggestion.picker import Diversity, Picker
from tests.helpers.answers import run_here
from tests.helpers.pages import assert_needs_nothing
from tests.helpers.tables import SITES, variants, write

EXPERIMENT = "studies/experiment/plates.yaml"
SEARCH = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", "--n-trials", "1", "trainer.threads=1")


@dataclass(frozen=True)
class Searched:
    folder: Path
    parts: dict[str, str]
    """Of each sequence of the table, where it stands."""
    target: dict[str, float]

    def suggest(self, *words, cwd=None):
        words = ("suggest", EXPERIMENT, "--output", "plate.csv", *words)
        return run_here(*words, cwd=cwd or self.folder)


def rows_of(folder, name="plate.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A ridge of 300 of 1,080 variants at four positions; all of them stand in all.csv."""
    folder = tmp_path_factory.mktemp("suggest")
    every = variants()
    chosen = np.random.default_rng(0).permutation(len(every))[:300]
    target = {every[i][1]: round(every[i][2], 4) for i in chosen}
    write(folder / "t.csv", "sequence,fitness", list(target.items()))
    write(folder / "all.csv", "sequence,name", [(one[1], f"=v{i}") for i, one in enumerate(every)])
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    answer = run_here(*SEARCH, "--model", "ridge", "--study-name", "plates", "--quiet", cwd=folder)
    assert answer.status == 0, answer
    (divided,) = (folder / "runs" / "data").glob("*.csv")
    with divided.open(newline="") as file:
        parts = {row["sequence"]: row["set"] for row in csv.DictReader(file)}
    return Searched(folder, parts, target)


def test_a_plate_holds_the_best_that_nobody_measured(searched):
    words = ("--input", "all.csv", "--batch", "96", "--plate", "96", "--controls", "4", "--names")
    answer = searched.suggest(*words, "--no-train")  # as `predict`
    assert answer.status == 0, answer
    n_test = sum(part == "test" for part in searched.parts.values())
    assert f"{len(variants()):,} candidates in" in answer.out
    assert f"300 were measured already and are left out ({300 - n_test} in training and validation, {n_test} in" in (
        answer.out
    )
    assert "Picked by greedy: 92 candidates and 4 controls on 1 plate." in answer.out
    rows = rows_of(searched.folder)
    assert len(rows) == 96
    candidates = [row for row in rows if row["role"] == "candidate"]
    assert [int(row["rank"]) for row in candidates] == list(range(1, 93))
    assert not {row["sequence"] for row in candidates} & searched.target.keys()
    assert all(row["name"].startswith("'=v") for row in candidates)
    ranked = run_here("predict", EXPERIMENT, "--input", "all.csv", "--no-distance", cwd=searched.folder)
    every = list(csv.DictReader(io.StringIO(ranked.out)))
    new = sorted((float(row["prediction"]) for row in every if row["sequence"] not in searched.target), reverse=True)
    assert [float(row["prediction"]) for row in candidates] == pytest.approx(new[:92], rel=1e-5)
    said = {row["sequence"]: row for row in every}
    for row in candidates[:10]:
        for name in ("low", "high", "std_calibrated"):
            assert float(row[name]) == pytest.approx(float(said[row["sequence"]][name]), rel=1e-4)
    controls = {row["well"]: row for row in rows if row["role"] == "control"}
    assert list(controls) == ["A12", "B12", "C12", "D12"]
    known = {one: value for one, value in searched.target.items() if searched.parts[one] != "test"}
    best = max(known, key=lambda one: known[one])
    assert [controls[well]["sequence"] for well in controls] == [WILD_TYPE, best] * 2
    assert controls["A12"]["mutations"] == "WT"
    assert {controls["B12"]["rank"], controls["B12"]["acquisition"]} == {""}


def test_the_file_beside_it_says_what_it_was_made_of(searched):
    assert searched.suggest("--input", "all.csv", "--batch", "5", "--acquisition", "ucb", "--beta", "2").status == 0
    about = json.loads((searched.folder / "plate.json").read_text())
    last = (searched.folder / EXPERIMENT).read_text().splitlines()[-1]
    assert about["experiment"]["checksum"] == last.split("checksum: ")[1]
    assert about["data"]["sha256"] == search.load_experiment(searched.folder / EXPERIMENT).provenance.data_hash
    assert about["candidates"] == {"n": len(variants()), "n_measured": 240, "n_in_test": 60, "file": "all.csv"}
    assert about["choice"]["beta"] == 2.0
    plate = (searched.folder / "plate.csv").read_bytes()
    assert about["plate"]["sha256"] == hashlib.sha256(plate).hexdigest()


@pytest.mark.parametrize("name", ["greedy", "ucb", "thompson", "expected-improvement"])
def test_each_acquisition_picks_its_highest_and_the_same_again(searched, name):
    words = ("--input", "all.csv", "--batch", "40", "--acquisition", name, "--seed", "7", "--quiet")
    assert searched.suggest(*words).status == 0
    first = (searched.folder / "plate.csv").read_bytes()
    assert searched.suggest(*words).status == 0
    assert (searched.folder / "plate.csv").read_bytes() == first
    values = [float(row["acquisition"]) for row in rows_of(searched.folder)]
    assert values == sorted(values, reverse=True)
    if name == "thompson":
        assert searched.suggest(*words[:-3], "--seed", "8", "--quiet").status == 0
        assert (searched.folder / "plate.csv").read_bytes() != first


@pytest.mark.parametrize(
    "limits", [{"max_per_position": 12}, {"min_distance": 3}, {"max_per_position": 25, "min_distance": 2}]
)
def test_candidates_pass_again_until_the_batch_is_what_a_pick_from_all_would_be(searched, limits):
    """8,000 candidates, of which 4,096 are kept at a time; the best of them all have the same few positions."""
    path, sites = searched.folder / EXPERIMENT, ",".join(str(site + 1) for site in SITES[:3])
    given = {"mutagenesis": f"sites:{sites}", "quiet": True, "data": searched.folder / "t.csv"}
    given["runs_dir"] = searched.folder / "runs"
    every = search.suggest(path, batch=8000, **given).candidates
    assert len(every) > 4096
    picker = Picker(40, Diversity(**limits))
    expected = []
    for well in every:
        mutated = [i for i, pair in enumerate(zip(WILD_TYPE, well.sequence, strict=True)) if pair[0] != pair[1]]
        if picker.take(well.sequence, mutated):
            expected.append(well.sequence)
    found = search.suggest(path, batch=40, **limits, **given)
    assert [well.sequence for well in found.candidates] == expected
    assert 0 < len(expected) <= 40


def _distances(texts):
    codes = np.array([list(text.encode()) for text in texts])
    return (codes[:, None] != codes).sum(axis=2)[np.triu_indices(len(codes), 1)]


@pytest.mark.parametrize("family", ["ridge", pytest.param("kernel", marks=pytest.mark.slow)])
def test_a_batch_is_spread_out_where_the_best_are_nearly_the_same(searched, family):
    """Of 8,000 candidates the best share most of their mutations."""
    name = "plates" if family == "ridge" else "plates-kernel"
    path, given = searched.folder / f"studies/experiment/{name}.yaml", {"runs_dir": searched.folder / "runs"}
    if family == "kernel":
        answer = run_here(*SEARCH, "--model", "kernel", "--study-name", name, "--quiet", cwd=searched.folder)
        assert answer.status == 0, answer
    given |= {"quiet": True, "data": searched.folder / "t.csv", "batch": 24, "acquisition": "greedy"}
    given["mutagenesis"] = "sites:" + ",".join(str(site + 1) for site in SITES[:3])
    greedy = search.suggest(path, **given)
    spread = search.suggest(path, **given, spread=True, output=searched.folder / "s.csv")
    assert spread.spread_by == ("their sequences" if family == "ridge" else "the kernel's covariance")
    assert greedy.spread_by == ""
    texts = [[well.sequence for well in plate.candidates] for plate in (greedy, spread)]
    assert texts[0][0] == texts[1][0]  # the best is the first of both
    assert len(set(texts[1])) == 24
    assert _distances(texts[1]).mean() > _distances(texts[0]).mean()
    about = json.loads((searched.folder / "s.json").read_text())["choice"]
    assert (about["spread"], about["spread_by"]) == (1.0, spread.spread_by)
    first = (searched.folder / "s.csv").read_bytes()
    search.suggest(path, **given, spread=1.0, output=searched.folder / "s.csv")
    assert (searched.folder / "s.csv").read_bytes() == first
    none = search.suggest(path, **given, spread=0)
    assert [well.sequence for well in none.candidates] == texts[0]
    wider = search.suggest(path, **given, spread=5.0)
    assert _distances([well.sequence for well in wider.candidates]).mean() >= _distances(texts[1]).mean()


def test_a_spread_batch_keeps_to_what_is_asked_of_it_and_candidates_pass_again(searched):
    sites = ",".join(str(site + 1) for site in SITES[:3])
    words = ("--mutagenesis", f"sites:{sites}", "--batch", "40", "--spread", "--max-per-position", "12")
    answer = searched.suggest(*words)
    assert answer.status == 0, answer
    assert "Spread out by their sequences, with a weight of 1." in answer.out
    rows = rows_of(searched.folder)
    counts = Counter(one[:-1] for row in rows for one in row["mutations"].split(":"))
    assert max(counts.values()) <= 12
    assert len({row["sequence"] for row in rows}) == len(rows)
    few = searched.suggest("--input", "all.csv", "--batch", "9", "--spread", "0.5", "--quiet")
    assert few.status == 0, few


def test_a_batch_that_cannot_be_filled_is_said_with_its_count(searched):
    answer = searched.suggest(
        "--input", "all.csv", "--batch", "200", "--plate", "96", "--controls", "2", "--max-per-position", "3"
    )
    assert answer.status == 0, answer
    rows = rows_of(searched.folder)
    n = sum(row["role"] == "candidate" for row in rows)
    assert 0 < n < 20
    assert f"Only {n} of 194 wells for candidates are filled: no other candidate keeps to what was asked" in answer.out
    assert {row["plate"] for row in rows} == {"1"}
    assert len(rows) == n + 2
    # Where there are simply no more, nothing that was asked of the batch is the reason.
    write(searched.folder / "few.csv", "sequence", [(WILD_TYPE[:-1] + residue,) for residue in "CDE"])
    answer = searched.suggest("--input", "few.csv", "--batch", "8", "--max-per-position", "4", "--no-train")
    assert "Only 3 of 8 wells for candidates are filled: there are no more candidates." in answer.out


def test_what_a_stranger_calls_a_column_reaches_no_terminal_raw(searched, tmp_path):
    odd = "fit\x1b[31mness"
    shutil.copytree(searched.folder, tmp_path / "copy")
    text = (tmp_path / "copy" / "t.csv").read_text().replace("fitness", odd, 1)
    (tmp_path / "copy" / "t.csv").write_text(text)
    path = tmp_path / "copy" / EXPERIMENT
    known = load_experiment(path)
    table = replace(known.config.table, target_column=odd)
    freeze(replace(known, config=replace(known.config, table=table)), path)
    words = ("--mutagenesis", "sites:1", "--data", "t.csv")
    for answer in (
        searched.suggest("--batch", "4", "--no-train", *words, cwd=tmp_path / "copy"),
        run_here("predict", EXPERIMENT, "--no-distance", *words, cwd=tmp_path / "copy"),
        run_here("predict", EXPERIMENT, "--no-distance", "--require", "plates>=0", *words, cwd=tmp_path / "copy"),
    ):
        assert answer.status == 0, answer
        assert "fit?[31mness" in answer.out + answer.err
        assert "\x1b" not in answer.out + answer.err


def test_candidates_that_a_model_cannot_tell_apart_are_said(searched):
    """A ridge at a position where nothing was measured, and at one where much was."""
    answer = searched.suggest("--mutagenesis", "sites:1", "--batch", "5")
    assert answer.status == 0, answer
    assert "lie outside of what was trained on (positions: 5)." in answer.out
    assert "5 of 5 candidates come out alike, at " in answer.out
    answer = searched.suggest("--mutagenesis", "sites:10,13", "--batch", "5")
    assert answer.status == 0, answer
    assert "come out alike" not in answer.out


def test_measured_mutations_are_recombined(searched):
    answer = searched.suggest("--recombine", "6", "--max-mutations", "2", "--batch", "3")
    assert answer.status == 0, answer
    assert "Recombined: the 6 best of 19 measured mutations, up to 2 of them, in" in answer.err
    for row in rows_of(searched.folder):
        assert 1 <= len(row["mutations"].split(":")) <= 2
        assert row["sequence"] not in searched.target


def test_a_sequence_that_stands_there_twice_is_taken_once(searched, tmp_path):
    new = [one for _, one, _ in variants() if one not in searched.target][:3]
    (tmp_path / "twice.txt").write_text("\n".join(new * 2 + [new[0].lower() + "*"]))
    answer = searched.suggest("--input", str(tmp_path / "twice.txt"), "--batch", "7")
    assert answer.status == 0, answer
    assert sorted(row["sequence"] for row in rows_of(searched.folder)) == sorted(new)
    assert "Only 3 of 7 wells for candidates are filled: there are no more candidates." in answer.out


def test_a_search_on_a_table_proposes_the_next_plate(searched):
    answer = run_here(*SEARCH, "--model", "ridge", "--study-name", "plates", cwd=searched.folder)
    assert answer.status == 0, answer
    (ranked,) = re.findall(r"^Next: (.*)$", answer.out, re.M)
    assert shlex.split(ranked)[2] == "predict"
    (proposed,) = re.findall(r"^Or: (.*)$", answer.out, re.M)
    words = shlex.split(proposed)[2:]
    assert words[:3] == ["suggest", EXPERIMENT, "--recombine"]
    assert run_here(*words, cwd=searched.folder).status == 0
    assert len(rows_of(searched.folder)) == 96


def test_python_picks_the_same_as_the_command(searched):
    words = ("--mutagenesis", "singles", "--batch", "12", "--plate", "96", "--controls", "2")
    assert searched.suggest(*words).status == 0
    found = search.suggest(
        searched.folder / EXPERIMENT,
        batch=12,
        mutagenesis="singles",
        plate=96,
        controls=2,
        data=searched.folder / "t.csv",
        runs_dir=searched.folder / "runs",
        quiet=True,
    )
    frame = pd.DataFrame(found.wells)
    rows = rows_of(searched.folder)
    assert frame["sequence"].tolist() == [row["sequence"] for row in rows]
    assert frame["well"].tolist() == [row["well"] for row in rows]
    assert [well.rank for well in found.candidates] == list(range(1, 11))
    with pytest.raises(UserError, match="--batch 0 is not valid"):
        search.suggest(searched.folder / EXPERIMENT, batch=0, mutagenesis="singles")


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
def test_a_figure_shows_where_the_batch_lies(searched, ending):
    words = ("--mutagenesis", "singles", "--batch", "12", "--figure", f"batch.{ending}")
    answer = searched.suggest(*words)
    assert answer.status == 0, answer
    assert f"Figure: batch.{ending}" in answer.out
    drawn = (searched.folder / f"batch.{ending}").read_bytes()
    positions = {row["mutations"][:-1] for row in rows_of(searched.folder)}
    if ending == "html":
        assert_needs_nothing(drawn.decode())
        assert "12 candidates of the batch, and the best" in drawn.decode()
    if ending != "png":
        assert all(position in drawn.decode() for position in positions)
        assert "best measured" in drawn.decode()
    assert searched.suggest(*words, "--quiet").status == 0
    assert (searched.folder / f"batch.{ending}").read_bytes() == drawn or ending == "html"  # plotly draws ids


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--figure", "batch.jpg"), "--figure batch.jpg ends in none of"),
        (("--figure", "t.csv"), "ends in none of"),
        (("--output", "plate.txt"), "expected a file that ends in .csv"),
        (("--output", "-"), "expected a file that ends in .csv"),
        (("--output", "t.csv"), "--output t.csv is the experiment's table itself"),
        (("--output", "all.csv", "--input", "all.csv"), "--output all.csv is the --input itself"),
        (("--output", "nowhere/plate.csv"), "There is no folder nowhere"),
        (("--acquisition", "best"), "invalid choice: 'best'"),
        (("--plate", "24"), "invalid choice: 24"),
        (("--beta", "1"), "--acquisition ucb"),
        (("--input", "measured.csv", "--no-train"), "Every candidate (300) was measured already"),
        (("--data", "other.csv"), "was made on other data"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(searched, tmp_path, words, sentence):
    for name in ("t.csv", "all.csv", "wt.fasta"):
        shutil.copy(searched.folder / name, tmp_path)
    shutil.copytree(searched.folder / "studies", tmp_path / "studies")
    shutil.copy(searched.folder / "t.csv", tmp_path / "measured.csv")
    (tmp_path / "other.csv").write_text((tmp_path / "t.csv").read_text().replace("0.", "1."))
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    given = () if "--input" in words else ("--mutagenesis", "singles")
    if words[0] == "--output":
        answer = run_here("suggest", EXPERIMENT, "--batch", "9", *given, *words, cwd=tmp_path)
    else:
        answer = searched.suggest("--batch", "9", *given, *words, cwd=tmp_path)
    assert sentence in answer.refusal()
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_an_experiment_without_errors_on_validated_rows_is_picked_from_by_its_predictions_alone(searched, tmp_path):
    for name in ("t.csv", "wt.fasta"):
        shutil.copy(searched.folder / name, tmp_path)
    shutil.copytree(searched.folder / "studies", tmp_path / "studies")
    known = load_experiment(tmp_path / EXPERIMENT)
    freeze(replace(known, calibration=None), tmp_path / EXPERIMENT)
    words = ("--mutagenesis", "singles", "--batch", "4", "--data", str(tmp_path / "t.csv"))
    refusal = searched.suggest(*words, "--acquisition", "ucb", cwd=tmp_path).refusal()
    assert "--acquisition ucb needs the errors on validated rows" in refusal
    for name in ("greedy", "thompson"):  # its five models are drawn from
        assert searched.suggest(*words, "--acquisition", name, cwd=tmp_path).status == 0
    # Trained on all that was measured it is one model, of which nothing can be drawn.
    refusal = searched.suggest(*words, "--acquisition", "thompson", "--train", "--quiet", cwd=tmp_path).refusal()
    assert "--acquisition thompson needs the errors on validated rows" in refusal
    assert {row["low"] for row in rows_of(tmp_path)} == {""}
