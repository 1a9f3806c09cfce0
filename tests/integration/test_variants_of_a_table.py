"""How variants are written and which are left out, from the table to the ranked candidates."""

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import Answer, run_here
from tests.helpers.tables import variants
from tests.unit.datasets.test_numbering import moved

FIRST = 24  # the number of the wild type's first residue
SITES = (33, 36, 39, 44)  # those at which the variants have mutations
ROWS = [(moved(name, FIRST - 1), sequence, value) for name, sequence, value in variants()[:600:5]]
SPARE = [(moved(name, FIRST - 1), sequence, "n.d.") for name, sequence, _ in variants()[1:30:5]]
SEARCH = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", "--model", "ridge", "--n-trials", "1")
COUNTED = ("--first-position", str(FIRST))


@dataclass(frozen=True)
class Searched:
    folder: Path
    answer: Answer

    @property
    def export(self) -> Path:
        return self.folder / "studies" / "experiment" / "t-fitness-random-ridge.yaml"

    def ranked(self, *words: str) -> list[dict[str, str]]:
        answer = run_here("predict", str(self.export), *words, cwd=self.folder)
        assert answer.status == 0, answer
        return list(csv.DictReader(io.StringIO(answer.out)))

    def refused(self, *words: str) -> str:
        answer = run_here("predict", str(self.export), *words, cwd=self.folder)
        assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1), answer
        return answer.err


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A trial of ridge on a table whose first residue has the number 24, and of which six rows were not measured."""
    folder = tmp_path_factory.mktemp("variants")
    lines = [f"p{i},{name},{value}\n" for i, (name, _, value) in enumerate([*ROWS[:60], *SPARE, *ROWS[60:]])]
    (folder / "t.csv").write_text("name,mutant,fitness\n" + "".join(lines))
    (folder / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    answer = run_here(*SEARCH, *COUNTED, "trainer.threads=1", "validation=holdout", cwd=folder)
    assert answer.status == 0, answer
    return Searched(folder, answer)


def test_without_the_number_the_search_names_it(searched: Searched, tmp_path: Path) -> None:
    for name in ("t.csv", "wt.fasta"):
        shutil.copy(searched.folder / name, tmp_path)
    answer = run_here(*SEARCH, cwd=tmp_path)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert answer.err.endswith("has the number 24, and not 1; give --first-position 24.\n")
    checked = run_here("data", "check", "t.csv", "--wild-type", "wt.fasta", *COUNTED, cwd=tmp_path)
    assert checked.status == 0
    assert f"positions     {','.join(map(str, SITES))}\n" in checked.out
    assert "--split random --wild-type wt.fasta --first-position 24 --model" in checked.out.replace(
        "two_vs_rest", "random"
    )


def test_one_numbering_holds_from_the_table_to_the_predictions(searched: Searched) -> None:
    folder = searched.folder
    assert "  first_position: 24\n" in searched.export.read_text()
    assert run_here("verify", str(searched.export), cwd=folder).status == 0
    rows = searched.ranked("--mutagenesis", "sites:33,36")
    assert {row["mutations"] for row in rows} >= {
        "WT",
        *(name for name, _, _ in ROWS if ":" not in name and "33" in name),
    }
    # The same candidates, read as they were written, and as whole sequences.
    (folder / "named.txt").write_text("".join(row["mutations"] + "\n" for row in rows))
    assert [row["prediction"] for row in searched.ranked("--input", "named.txt")] == [row["prediction"] for row in rows]
    assert searched.refused("--mutagenesis", "sites:10,13").endswith("whose positions are 24 to 55.\n")
    answer = run_here("predict", str(searched.export), "--mutagenesis", "singles", "--figure", "map.html", cwd=folder)
    assert answer.status == 0, answer
    drawn = (folder / "map.html").read_text()
    assert f"{WILD_TYPE[0]}24" in drawn
    assert f"{WILD_TYPE[-1]}55" in drawn
    assert f"{WILD_TYPE[0]}1" not in drawn.split("plotly", 1)[0]
    assert f'"{WILD_TYPE[9]}10"' not in drawn
    assert run_here("confirm", str(searched.export), "--seeds", "1", cwd=folder).status == 0
    assert searched.ranked("--mutagenesis", "sites:33", "--top", "1")[0]["mutations"] in {
        row["mutations"] for row in searched.ranked("--mutagenesis", "sites:33")
    }


def test_doubles_at_chosen_positions_are_those_of_all_doubles(searched: Searched) -> None:
    rows = searched.ranked("--mutagenesis", "doubles:39,33,36", "--top", "5")
    every = {row["mutations"]: row["prediction"] for row in searched.ranked("--mutagenesis", "sites:33,36,39")}
    doubles = {name: value for name, value in every.items() if name.count(":") == 1}
    assert len(doubles) == 3 * 19 * 19
    best = sorted(map(float, doubles.values()), reverse=True)[:5]
    assert [float(row["prediction"]) for row in rows] == best
    assert all(doubles[row["mutations"]] == row["prediction"] for row in rows)
    for what, says in (
        ("doubles:33", "'doubles:33' is not valid: expected two positions or more, such as doubles:11,170"),
        ("doubles:33,33", "The site 33 is named twice"),
        ("doubles:33,10", "The site 10 is outside of the wild type, whose positions are 24 to 55."),
        ("doubles:33,a", "expected singles, doubles, or positions"),
        ("doubles:", "expected singles, doubles, or positions"),
        ("singles:33", "expected singles, doubles, or positions"),
        ("sites:" + ",".join(map(str, range(24, 45))), "of up to 20"),
    ):
        assert says in searched.refused("--mutagenesis", what)


def test_a_study_with_another_number_is_another_study(searched: Searched) -> None:
    answer = run_here(*SEARCH, "--first-position", "23", cwd=searched.folder)
    assert answer.status == 2
    assert "give --first-position 24" in answer.err
