"""How variants are written and which are left out, from the table to the ranked candidates."""

import csv
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from datasets.candidates.files import one_line
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


def of_test(folder: Path) -> set[str]:
    """The sequences of the test set, as the search divided the table."""
    (divided,) = (folder / "runs" / "data").glob("*.csv")
    with divided.open(newline="") as file:
        return {row["sequence"] for row in csv.DictReader(file) if row["set"] == "test"}


@pytest.mark.parametrize("more", [(), ("--no-distance",), ("--top", "9000", "--top-chance", "5")])
def test_measured_variants_are_left_out_and_counted(searched: Searched, more: tuple[str, ...]) -> None:
    what = ("--mutagenesis", "sites:33,36,39")
    every = {row["mutations"]: float(row["prediction"]) for row in searched.ranked(*what)}
    answer = run_here("predict", str(searched.export), *what, "--exclude-measured", *more, cwd=searched.folder)
    assert answer.status == 0, answer
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    measured = {name for name, _, _ in ROWS} & set(every)
    test = {name for name, sequence, _ in ROWS if sequence in of_test(searched.folder)} & measured
    assert min(len(test), len(measured - test)) > 3
    assert {row["mutations"] for row in rows} == set(every) - measured
    assert sorted(int(row["rank"]) for row in rows) == list(range(1, len(rows) + 1))
    assert all(abs(float(row["prediction"]) - every[row["mutations"]]) < 1e-5 for row in rows)
    assert (
        f"{len(measured)} candidates were left out as measured already; of the test set, {len(test)} of them, only the "
        "sequences were looked at.\n"
    ) in answer.err
    assert f"{len(rows):,} candidates ranked" in answer.err


def test_sequences_are_left_out_like_mutations(searched: Searched) -> None:
    new = [sequence for _, sequence, _ in SPARE]
    (searched.folder / "c.fasta").write_text(
        "".join(f">{i}\n{sequence}\n" for i, sequence in enumerate([ROWS[3][1].lower(), *new, ROWS[4][1] + "*"]))
    )
    rows = searched.ranked("--input", "c.fasta", "--names", "--exclude-measured")
    assert [(row["sequence"], row["name"]) for row in rows] == [(text, str(i)) for i, text in enumerate(new, 1)]


def test_where_nothing_is_left_nothing_is_written(searched: Searched) -> None:
    (searched.folder / "all.txt").write_text("".join(f"{name}\n" for name, _, _ in ROWS[:7]))
    said = searched.refused("--input", "all.txt", "--exclude-measured", "--output", "none.csv")
    assert "Every candidate (7) was measured already" in said
    assert not (searched.folder / "none.csv").exists()
    said = searched.refused("--mutagenesis", "singles", "--figure", "m.html", "--exclude-measured")
    assert "leave --exclude-measured out" in said


def test_without_the_training_data_nobody_knows_what_was_measured(searched: Searched, tmp_path: Path) -> None:
    shutil.copytree(searched.folder / "studies", tmp_path / "studies")
    words = ("predict", f"studies/experiment/{searched.export.name}", "--mutagenesis", "sites:33", "--no-distance")
    assert run_here(*words, cwd=tmp_path).status == 0
    answer = run_here(*words, "--exclude-measured", cwd=tmp_path)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert "leave --exclude-measured out" in answer.err
    moved_to = tmp_path / "elsewhere.csv"
    shutil.copy(searched.folder / "t.csv", moved_to)
    answer = run_here(*words, "--exclude-measured", "--data", "elsewhere.csv", cwd=tmp_path)
    assert answer.status == 0, answer


def test_rows_without_a_measurement_are_ranked(searched: Searched, tmp_path: Path) -> None:
    rows = searched.ranked("--unmeasured", "--names")
    assert [row["mutations"] for row in rows] == [name for name, _, _ in SPARE]
    assert [row["name"] for row in rows] == [f"p{i}" for i in range(60, 66)]
    (searched.folder / "spare.txt").write_text("".join(f"{name}\n" for name, _, _ in SPARE))
    given = searched.ranked("--input", "spare.txt")
    assert [{**row, "name": ""} for row in rows] == [{**row, "name": ""} for row in given]
    assert searched.ranked("--unmeasured", "--names", "--exclude-measured") == rows
    best = searched.ranked("--unmeasured", "--top", "2", "--no-distance")
    assert [row["mutations"] for row in best] == [
        row["mutations"] for row in sorted(rows, key=lambda row: int(row["rank"]))[:2]
    ]
    # A replicate that failed is no variant without a measurement.
    table = (searched.folder / "t.csv").read_text() + f"again,{ROWS[5][0]},n.d.\nlast,{SPARE[0][0]},#N/A\n"
    (tmp_path / "longer.csv").write_text(table)
    answer = run_here(
        "predict", str(searched.export), "--unmeasured", "--names", "--data", str(tmp_path / "longer.csv"),
        cwd=searched.folder,
    )  # fmt: skip
    assert answer.status == 0, answer
    assert [row["name"] for row in csv.DictReader(io.StringIO(answer.out))] == [f"p{i}" for i in range(60, 66)] + [
        "last"
    ]
    assert "1 candidate was left out as measured already.\n" in answer.err


def test_where_no_row_lacks_a_measurement_that_is_said(searched: Searched, tmp_path: Path) -> None:
    kept = [line for line in (searched.folder / "t.csv").read_text().splitlines(keepends=True) if "n.d." not in line]
    (tmp_path / "kept.csv").write_text("".join(kept))
    assert "has no row without a measurement (where 'fitness' is empty" in searched.refused(
        "--unmeasured", "--data", str(tmp_path / "kept.csv")
    )
    (tmp_path / "kept.csv").write_text("".join([*kept, f"x,{ROWS[0][0]},\n"]))
    assert "Every candidate (1) was measured already" in searched.refused(
        "--unmeasured", "--data", str(tmp_path / "kept.csv")
    )
    assert "cannot be read" in searched.refused("--unmeasured", "--no-distance", "--data", str(tmp_path / "none.csv"))
    assert "--no-distance" not in searched.refused("--unmeasured", "--data", str(tmp_path / "none.csv"))
    assert "not allowed with" in searched.refused("--unmeasured", "--mutagenesis", "singles")


def test_a_task_with_a_name_has_no_rows_without_a_measurement(tmp_path: Path) -> None:
    words = ("--task", "synthetic_one_vs_rest", "--model", "ridge", "--n-trials", "1", "trainer.threads=1")
    assert run_here(*words, "validation=holdout", cwd=tmp_path).status == 0
    export = "studies/experiment/synthetic_one_vs_rest-ridge.yaml"
    answer = run_here("predict", export, "--unmeasured", cwd=tmp_path)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert "was trained on synthetic_one_vs_rest: give candidates with --input or --mutagenesis" in answer.err
    answer = run_here("predict", export, "--mutagenesis", "doubles:10,13", "--exclude-measured", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "candidates were left out as measured already; of the test set, " in answer.err


NAMES = {  # as they are read, and as a spreadsheet may see them
    "=1+1": "'=1+1",
    '=HYPERLINK("http://example.org","x")': '\'=HYPERLINK("http://example.org","x")',
    "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
    "-2+3": "'-2+3",
    "@SUM(1,2)": "'@SUM(1,2)",
    "＝1+1": "'＝1+1",
    "-": "'-",
    "-5": "-5",
    "+3.5e-2": "+3.5e-2",
    ".5": ".5",
    "plain = fine": "plain = fine",
    "'quoted": "'quoted",
    "a\r=1+1": "a =1+1",
    "a\n=1+1": "a =1+1",
    "\x1b[31mred": "[31mred",
    "tab\tin": "tab in",
    "": "",
}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "fasta"])
def test_names_are_text_to_a_spreadsheet(searched: Searched, ending: str) -> None:
    with (searched.folder / "named.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [("name", "mutations"), *((name, ROWS[i][0]) for i, name in enumerate(NAMES))]
        )
    words = ("--input", "named.csv", "--names", "--output", f"named-out.{ending}")
    assert searched.ranked(*words) == []
    path = searched.folder / f"named-out.{ending}"
    if ending == "parquet":
        found = pq.read_table(path)["name"].to_pylist()
        assert found == list(map(one_line, NAMES))
        return
    if ending == "fasta":
        headers = [line for line in path.read_text().splitlines() if line.startswith(">")]
        assert len(headers) == len(NAMES)
        assert headers[0].startswith(">=1+1 rank=")
        return
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="," if ending == "csv" else "\t"))
    assert [row["name"] for row in rows] == list(NAMES.values())
    assert [row["mutations"] for row in rows] == [name for name, _, _ in ROWS[: len(NAMES)]]
