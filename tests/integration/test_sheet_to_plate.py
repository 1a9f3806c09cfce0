"""The three commands of docs/suggest.md that go from an Excel sheet to a plate, as they stand there."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np

from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import Answer, run_here
from tests.helpers.processes import ROOT
from tests.helpers.tables import variants
from tests.helpers.workbooks import write_xlsx


def documented() -> list[list[str]]:
    """The words of each command of the section."""
    page = (ROOT / "docs" / "suggest.md").read_text(encoding="utf-8")
    section = page.partition("## From an Excel sheet to a plate")[2].partition("\n## ")[0]
    lines = re.findall(r"^ {4}python run_study\.py (.*)$", re.sub(r" \\\n +", " ", section), re.M)
    return [shlex.split(line) for line in lines]


def write_sheet(path: Path) -> set[str]:
    """Write 200 variants as a laboratory does; return those that were measured."""
    random = np.random.default_rng(0)
    rows: list[list[object]] = [
        ["Thermostability, March 2024"],
        ["Variant", "Replicate 1", "Replicate 2", "Replicate 3", "Comment"],
    ]
    measured = set()
    chosen = [0, *random.choice(np.arange(1, len(variants())), 199, replace=False)]
    for number, (text, _, value) in enumerate(variants()[int(i)] for i in chosen):
        cells = [f"{value + noise:.3f}".replace(".", ",") for noise in random.normal(0, 0.02, 3)]
        if number % 10 == 3:
            cells[0] = "n.d."
        if number % 40 == 7:
            cells = ["n.d."] * 3
        else:
            measured.add(text)
        rows.append([text.replace(":", "/"), *cells, "cloudy" if number % 7 == 0 else None])
    write_xlsx(path, {"Plate 1": rows, "Notes": [["read on Monday"]]})
    return measured


def test_an_excel_sheet_becomes_a_plate_in_three_documented_commands(tmp_path: Path) -> None:
    measured = write_sheet(tmp_path / "screen.xlsx")
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    check, search, suggest = documented()
    budget = search.index("--n-trials") + 1
    search = [*search[:budget], "2", *search[budget + 1 :], "trainer.threads=1"]
    answers: list[Answer] = []
    for words in (check, search, suggest):
        answers.append(run_here(*words, cwd=tmp_path))
        assert answers[-1].status == 0, answers[-1]
    checked, _, picked = answers
    assert "Excel, 200 rows, mutations in 'Variant'" in checked.out
    assert "rows without one are set aside" in checked.out
    assert re.search(r"the target '-?0,[0-9]+' is read as -?0\.[0-9]+", checked.out)
    assert "(mean of Replicate 1, Replicate 2, Replicate 3)" in picked.out
    with (tmp_path / "plate.csv").open(newline="") as file:
        wells = list(csv.DictReader(file))
    candidates = [well for well in wells if well["role"] == "candidate"]
    assert [well["well"] for well in wells if well["role"] == "control"] == ["A12", "B12", "C12", "D12"]
    assert candidates[0]["well"] == "A1"
    assert measured.isdisjoint(well["mutations"] for well in candidates)
    n_outside = sum(bool(well["outside"]) for well in candidates)
    said = f"{n_outside} of {len(candidates)} candidates lie outside of what was trained on"
    assert f"{said}{' (range: ' if n_outside else '.'}" in picked.out
    assert all(bool(well["low"]) is not bool(well["outside"]) for well in candidates)
