"""The map of single mutations: which cell stands where, and what is marked on it."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from datasets.candidates.mutation_map import RESIDUES, MeasuredSingles, MutationMap, measured_singles
from datasets.common.errors import UserError
from search.reporting import mutation_figure
from search.reporting.mutation_figure import describe, draw, save

WILD_TYPE = "MKTAYIAKQR"


def a_map(wild_type=WILD_TYPE, first=1, **others):
    """Effects that say where they belong: position + column / 100, 0 for the wild type's own residue."""
    effect = (np.arange(first, first + len(wild_type))[:, None] + np.arange(20) / 100).astype(np.float32)
    for place, residue in enumerate(wild_type):
        if residue in RESIDUES:
            effect[place, RESIDUES.index(residue)] = 0
    given = {
        "wild_type": wild_type,
        "first": first,
        "effect": effect,
        "prediction": 1.5,
        "units": "kcal",
        "n_models": 5,
    }
    return MutationMap(**{**given, **others})


def codes(sequences):
    width = max(map(len, sequences))
    rows = [np.frombuffer(text.ljust(width, "\0").encode(), dtype=np.uint8) for text in sequences]
    return np.array(rows), np.array(list(map(len, sequences)))


def mutant(*mutations):
    letters = list(WILD_TYPE)
    for text in mutations:
        assert letters[int(text[1:-1]) - 1] == text[0]
        letters[int(text[1:-1]) - 1] = text[-1]
    return "".join(letters)


def array(values):
    """A list or plotly's typed array, as a page has them."""
    if not isinstance(values, dict):
        return np.array(values)
    found = np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    return found.reshape([int(n) for n in values["shape"].split(",")]) if "shape" in values else found


def cells(drawing):
    """Of every cell that answers the mouse: its words, its value, and what stands beside it."""
    found = {}
    for trace in json.loads(drawing.figure.to_json())["data"]:
        if trace["type"] != "heatmap":
            continue
        z, beside = array(trace["z"]), array(trace["customdata"]) if "customdata" in trace else None
        for row, residue in enumerate(trace["y"]):
            for column, label in enumerate(trace["x"]):
                if np.isfinite(z[row, column]):
                    assert label + residue not in found, "two cells at one place"
                    measured = None if beside is None else beside[row, column]
                    found[label + residue] = (trace["hovertemplate"], z[row, column], measured)
    return found


def marks(drawing, name):
    traces = [trace for trace in json.loads(drawing.figure.to_json())["data"] if trace.get("name") == name]
    assert [bool(trace["showlegend"]) for trace in traces] == [True] + [False] * (len(traces) - 1)
    return {x + y for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True)}


def test_only_single_mutants_of_the_wild_types_length_count_as_measured():
    rows = {
        WILD_TYPE: 1.0,
        mutant("K2A"): 2.0,
        mutant("K2C", "T3C"): 50.0,
        WILD_TYPE + "A": 60.0,
        WILD_TYPE[:-1]: 70.0,
        mutant("M1G"): 4.0,
        mutant("T3X"): 80.0,
    }
    residues, lengths = codes([*rows, mutant("K2A")])
    target = np.array([*rows.values(), 5.0], dtype=np.float32)
    found = measured_singles(WILD_TYPE, range(1, 10), residues, lengths, target)
    assert found.wild_type == 1.0
    assert np.isfinite(found.singles).sum() == 1, "M1 is outside of what the model sees"
    assert found.singles[0, RESIDUES.index("A")] == 3.5, "the mean of its two rows"


@pytest.mark.parametrize("sequences", [[WILD_TYPE[:4]], [WILD_TYPE + "AA"], [WILD_TYPE]])
def test_where_no_single_mutant_is_there_none_is_measured(sequences):
    residues, lengths = codes(sequences)
    found = measured_singles(WILD_TYPE, range(10), residues, lengths, np.ones(1, dtype=np.float32))
    assert found.singles.shape == (10, 20)
    assert np.isnan(found.singles).all()


def test_every_cell_stands_at_its_position_and_residue_and_says_what_it_is():
    singles = np.full((10, 20), np.nan, dtype=np.float32)
    singles[3, RESIDUES.index("W")] = 0.25  # A42W
    drawn = a_map(first=39, measured=MeasuredSingles(singles=singles, wild_type=1.0))
    drawing = draw(drawn)
    found = cells(drawing)
    assert len(found) == 200
    for place, residue in enumerate(WILD_TYPE):
        for column, other in enumerate(RESIDUES):
            name = f"{residue}{39 + place}{other}"
            hover, effect, measured = found[name]
            if residue == other:
                assert hover.startswith("%{x}: wild type, predicted 1.5")
                continue
            assert effect == np.float32(39 + place + np.float32(column / 100)), name
            assert hover.startswith("%{x}%{y}: effect %{z")
            assert ("measured" in hover) == (name == "A42W")
            if name == "A42W":
                assert measured == 0.25
    assert marks(drawing, "wild type") == {f"{residue}{39 + i}{residue}" for i, residue in enumerate(WILD_TYPE)}
    assert marks(drawing, "measured") == {"A42W"}
    layout = drawing.figure.layout
    assert layout.coloraxis.cmin == -layout.coloraxis.cmax < 0
    assert layout.coloraxis.cmid == 0
    assert layout.coloraxis.colorbar.title.text == "effect (kcal)"
    assert (layout.xaxis.title.text, layout.yaxis.title.text) == (mutation_figure._POSITIONS, mutation_figure._RESIDUES)


def test_a_long_protein_is_wrapped_stays_whole_and_small():
    long = (WILD_TYPE * 100)[:993]
    singles = np.ones((993, 20), dtype=np.float32)
    drawing = draw(a_map(long, first=8, measured=MeasuredSingles(singles=singles, wild_type=1.0)))
    assert len(cells(drawing)) == 993 * 20
    heatmaps = [trace for trace in drawing.figure.data if trace.type == "heatmap"]
    assert max(len(trace.x) for trace in heatmaps) == 50
    assert len(marks(drawing, "measured")) == 993 * 19
    assert len(drawing.html) < 1_200_000
    assert drawing.min_width_px <= 1000
    assert drawing.height_px / 20 < 400


def test_a_residue_that_is_none_of_the_twenty_has_no_cell_of_its_own():
    drawing = draw(a_map("MXA"))
    assert marks(drawing, "wild type") == {"M1M", "A3A"}
    assert len([name for name in cells(drawing) if name.startswith("X2")]) == 20


def test_empty_cells_stay_empty_and_one_extreme_effect_does_not_make_the_others_pale():
    drawn = a_map()
    effect = np.where(drawn.effect == 0, 0, np.float32(0.1))
    effect[0, 0], effect[1, 0] = np.nan, 1000.0
    drawn = replace(drawn, effect=effect)
    drawing = draw(drawn)
    assert "M1A" not in cells(drawing)
    assert drawing.figure.layout.coloraxis.cmax < 1
    assert any("1 effects lie beyond" in sentence for sentence in describe(drawn))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_map_without_any_effect_is_drawn(value, tmp_path):
    drawn = replace(a_map(), effect=np.full((10, 20), value, dtype=np.float32))
    assert draw(drawn).figure.layout.coloraxis.cmax == 1
    save(drawn, tmp_path / "a.png", "x")


def test_relevances_stand_above_their_positions():
    relevance = np.arange(60, dtype=np.float64)
    relevance[3] = np.nan
    drawing = draw(a_map(WILD_TYPE * 6, relevance=relevance))
    bars = [trace for trace in json.loads(drawing.figure.to_json())["data"] if trace["type"] == "bar"]
    heights = {x: y for trace in bars for x, y in zip(trace["x"], array(trace["y"]), strict=True)}
    assert [heights[f"{residue}{i + 1}"] for i, residue in enumerate(WILD_TYPE * 6) if i != 3] == [
        value for i, value in enumerate(relevance) if i != 3
    ]


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, ending, monkeypatch):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"a.{ending}"
    path.write_text("before")

    def fail(*words, **named):
        raise UserError("no")

    monkeypatch.setattr(mutation_figure, "_picture", fail)
    monkeypatch.setattr(mutation_figure, "draw", fail)
    with pytest.raises(UserError):
        save(a_map(), path, "x")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_users_are_no_markup_and_no_formula(tmp_path):
    drawn = a_map(units="$<script>alert(1)</script>_{x")
    save(drawn, tmp_path / "a.html", "<b>$x</b>")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b>" not in text
    save(drawn, tmp_path / "a.svg", "<b>$x</b>")
    assert "alert(1)" in (tmp_path / "a.svg").read_text(encoding="utf-8")
