"""The map of single mutations of a real search: made alone in three formats, and in the report."""

import csv
import json
import os
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import search
from tests.helpers.answers import run_here
from tests.helpers.pages import assert_needs_nothing, without_plotly
from tests.unit.search.test_mutation_figure import array

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

WILD_TYPE = "MKTAYIAKQRQISFVKSHFS"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@dataclass(frozen=True)
class Searched:
    folder: Path
    export: Path
    name: str
    measured: dict[str, float]
    """Of the rows that are not of the test set, by their mutation."""
    tested: set[str]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Four trials of ridge regression on a table of single mutants, a fifth of which is test."""
    folder = tmp_path_factory.mktemp("map")
    draws = random.Random(1)
    site = [draws.gauss(-0.5, 0.5) for _ in WILD_TYPE]
    side = {residue: draws.gauss(0, 0.4) for residue in RESIDUES}
    rows = {"WT": 0.0}
    for place, own in enumerate(WILD_TYPE):
        for residue in RESIDUES.replace(own, ""):
            if draws.random() < 0.7:
                rows[f"{own}{place + 1}{residue}"] = round(site[place] + side[residue] + draws.gauss(0, 0.1), 4)
    (folder / "t.csv").write_text("mutant,fitness\n" + "".join(f"{name},{value}\n" for name, value in rows.items()))
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    words = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", "--model", "ridge", "--n-trials", "4")
    answer = run_here(*words, "--study-name", "maps", "trainer.threads=1", "validation=holdout", cwd=folder)
    assert answer.status == 0, answer
    by_sequence = {mutated(name): name for name in rows if name != "WT"}
    (divided,) = (folder / "runs" / "data").glob("*.csv")
    with divided.open(newline="") as file:
        parts = {row["sequence"]: row["set"] for row in csv.DictReader(file)}
    tested = {name for sequence, name in by_sequence.items() if parts[sequence] == "test"}
    assert tested
    measured = {name: value for name, value in rows.items() if name not in tested and name != "WT"}
    return Searched(folder, folder / "studies" / "experiment" / "maps.yaml", "maps", measured, tested)


def mutated(name):
    place = int(name[1:-1]) - 1
    return WILD_TYPE[:place] + name[-1] + WILD_TYPE[place + 1 :]


def cells_of(page):
    """The cells of the map in a page, by their mutation: words, effect, and what was measured."""
    found = {}
    decoder = json.JSONDecoder()
    for piece in without_plotly(page).split("Plotly.newPlot(")[1:]:
        if not piece.lstrip().startswith('"'):  # the page's own script, which draws what waits
            continue
        data, _ = decoder.raw_decode(piece[piece.index("[") :])
        for trace in data:
            if trace["type"] != "heatmap":
                continue
            z, beside = array(trace["z"]), array(trace["customdata"]) if "customdata" in trace else None
            for row, residue in enumerate(trace["y"]):
                for column, label in enumerate(trace["x"]):
                    if np.isfinite(z[row, column]):
                        measured = None if beside is None else float(beside[row, column])
                        found[label + residue] = (trace["hovertemplate"], float(z[row, column]), measured)
    return found


def check_cells(cells, searched):
    assert len(cells) == 20 * len(WILD_TYPE)
    names = [name for name, (hover, *_) in cells.items() if "wild type" not in hover]
    assert len(names) == 19 * len(WILD_TYPE)
    predictions = search.load_experiment(searched.export).predict([WILD_TYPE, *map(mutated, names)])
    effects = np.array([cells[name][1] for name in names])
    assert np.abs(effects).max() > 0.1
    assert np.allclose(effects, predictions[1:] - predictions[0], atol=1e-5)
    marked = {name: measured for name, (_, _, measured) in cells.items() if measured is not None}
    assert marked.keys() == searched.measured.keys(), "no row of the test set is among them"
    assert all(abs(marked[name] - value) < 1e-5 for name, value in searched.measured.items())


def test_the_page_has_every_cell_and_marks_what_was_measured_outside_of_the_test_set(searched, tmp_path):
    words = ("predict", str(searched.export), "--mutagenesis", "singles", "--figure", str(tmp_path / "map.html"))
    answer = run_here(*words, "--quiet", cwd=searched.folder)
    assert (answer.status, answer.out, answer.err) == (0, "", ""), answer
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    check_cells(cells_of(page), searched)
    assert_needs_nothing(page)
    assert "effect (fitness)" in page
    assert f"{len(searched.measured):,} mutants that were measured" in page


def test_pictures_and_rows_are_written_together(searched, tmp_path):
    pytest.importorskip("matplotlib")
    words = ("predict", str(searched.export), "--mutagenesis", "singles")
    rows = tmp_path / "rows.csv"
    answer = run_here(*words, "--figure", str(tmp_path / "m.PNG"), "--output", str(rows), cwd=searched.folder)
    assert (answer.status, answer.out) == (0, ""), answer
    assert f"Map: {tmp_path / 'm.PNG'}" in answer.err
    assert len(rows.read_text().splitlines()) == 1 + 19 * len(WILD_TYPE)
    picture = (tmp_path / "m.PNG").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert 600 < width < 4000
    assert 400 < height < 2000
    words = (*words, "--top", "3", "--no-distance", "--output", str(rows))
    answer = run_here(*words, "--figure", str(tmp_path / "m.svg"), cwd=searched.folder)
    assert answer.status == 0, answer
    assert len(rows.read_text().splitlines()) == 4
    text = (tmp_path / "m.svg").read_text(encoding="utf-8")
    assert text.lstrip().startswith("<?xml")
    for words_of_it in ("Predicted effect of single mutations", "effect (fitness)", ">M1<", ">S20<", "maps.yaml"):
        assert words_of_it in text, words_of_it


def test_the_report_has_the_map_and_says_how_to_make_it_alone(searched, tmp_path):
    answer = run_here("report", "--study-name", "maps", "--output", str(tmp_path / "r.html"), cwd=searched.folder)
    assert answer.status == 0, answer
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    check_cells(cells_of(page), searched)
    assert "--mutagenesis singles --figure map.html" in page


def test_a_report_without_weights_or_data_says_so(searched, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(searched.folder, folder)
    (folder / "t.csv").unlink()
    assert run_here("report", "--study-name", "maps", cwd=folder).status == 0
    page = (folder / "runs" / "maps" / "report.html").read_text(encoding="utf-8")
    assert "Measured mutants are not marked" in page
    assert len(cells_of(page)) == 20 * len(WILD_TYPE)
    for path in (folder / "studies" / "experiment").rglob("*.safetensors"):
        path.unlink()
    assert run_here("report", "--study-name", "maps", cwd=folder).status == 0
    page = (folder / "runs" / "maps" / "report.html").read_text(encoding="utf-8")
    assert "There is no map of single mutations: The weights" in page
    assert not cells_of(page)


def test_the_map_of_an_ensemble_says_what_it_is_of(searched, tmp_path):
    assert run_here("combine", "maps", "--export", "maps-2", cwd=searched.folder).status == 0
    words = ("predict", "studies/experiment/maps-2.yaml", "--mutagenesis", "singles", "--no-distance")
    page = tmp_path / "m.html"
    assert run_here(*words, "--figure", str(page), "--quiet", cwd=searched.folder).status == 0
    assert "maps-2.yaml: ensemble of " in page.read_text(encoding="utf-8")
    # The study's own export is still found beside it.
    answer = run_here("report", "--study-name", "maps", "--output", str(tmp_path / "r.html"), cwd=searched.folder)
    assert answer.status == 0, answer
    assert "By maps.yaml, with the weights beside it" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_cannot_be_drawn_is_refused_before_anything_is_computed(searched, tmp_path, monkeypatch):
    def refused(*words):
        before = sorted(tmp_path.rglob("*"))
        answer = run_here("predict", *words, cwd=searched.folder)
        assert sorted(tmp_path.rglob("*")) == before
        return answer.refusal()

    monkeypatch.setattr("search.experiments.trained.TrainedExperiment.__init__", lambda *words, **named: 1 / 0)
    export, singles = str(searched.export), ("--mutagenesis", "singles")
    assert ".html, .png, .svg" in refused(export, *singles, "--figure", "map.pdf")
    assert ".html, .png, .svg" in refused(export, *singles, "--figure", "map")
    assert ".html, .png, .svg" in refused(export, *singles, "--figure", "-")
    assert "--mutagenesis singles" in refused(export, "--mutagenesis", "doubles", "--figure", "m.svg")
    assert "--mutagenesis singles" in refused(export, "--mutagenesis", "sites:1,2", "--figure", "m.svg")
    assert "--mutagenesis singles" in refused(export, "--input", "t.csv", "--figure", "m.svg")
    assert "There is no folder nowhere for --figure" in refused(export, *singles, "--figure", "nowhere/m.html")
    (tmp_path / "m.html").mkdir()
    assert "is a folder" in refused(export, *singles, "--figure", str(tmp_path / "m.html"))
    page = tmp_path / "e.html"
    os.link(searched.folder / "t.csv", page)
    assert "--figure" in (sentence := refused(export, *singles, "--figure", str(page)))
    assert "the experiment's table itself" in sentence
    moved = tmp_path / "moved.html"
    os.link(searched.export, moved)
    assert "the experiment itself" in refused(export, *singles, "--figure", str(moved))
    assert "--top" in refused(export, *singles, "--figure", "m.html", "--top", "3")
    monkeypatch.setattr("search.reporting.mutation_figure.find_spec", lambda name: None)
    assert "pip install matplotlib" in refused(export, *singles, "--figure", "m.png")
