"""Candidates are read as tables are: from Excel, in any encoding, and from the column that the training table has."""

import gzip
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from datasets.candidates.candidates import read_candidates
from datasets.candidates.files import CandidateColumns
from datasets.common.errors import UserError
from datasets.tasks.registry import find_task
from tests.helpers.tables import surveyed, write
from tests.helpers.workbooks import write_xls, write_xlsx

TASK = find_task("synthetic_two_vs_rest")
WILD_TYPE = TASK.wild_type or ""
FIRST = WILD_TYPE[0]
OTHER = "A" if FIRST != "A" else "C"
MUTATED = OTHER + WILD_TYPE[1:]


def read(path: Path, **columns: str | None) -> list[str]:
    blocks = list(read_candidates(path, TASK, None, columns=CandidateColumns(**columns)).blocks)
    return [text for block in blocks for text in block.sequences()]


def refusal(path: Path, **columns: str | None) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **columns)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("make", [write_xlsx, write_xls], ids=["xlsx", "xls"])
def test_a_sheet_is_read_whatever_the_file_is_called(make, tmp_path: Path) -> None:
    rows = [["Plate 7"], ["name", "Sequence"], ["a", "ACD"], ["b", "ACE"]]
    path = make(tmp_path / "a.csv", {"S": rows, "Empty": []})
    assert read(path) == ["ACD", "ACE"]
    stream = read_candidates(path, TASK, "excel", has_names=True)
    (block,) = stream.blocks
    assert (list(block.names or ()), list(block.lines or ()), block.place) == (["a", "b"], [3, 4], "row")
    make(path, {"S": rows, "T": [*rows, ["c", "AC1"]]})
    assert read(path, sheet="S") == ["ACD", "ACE"]
    assert refusal(path).startswith("FILE has several sheets that are not empty ('S', 'T')")
    assert refusal(path, sheet="T").startswith("FILE, row 5: the residue '1' at position 3 is not one of")
    assert refusal(path, sheet="U").startswith("FILE has no sheet 'U'")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet", "xlsx", "data"])
def test_the_columns_of_the_training_table_are_looked_for_first(kind: str, tmp_path: Path) -> None:
    columns = {
        "hgvs_pro": [f"p.{FIRST}1{OTHER}", "_wt"],
        "Construct": ["ACD", "ACE"],
        "Variant_sequence": ["AAA", "CCC"],
    }
    path = tmp_path / f"a.{kind}"
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    text = "\n".join(map("\t".join, rows) if kind == "tsv" else map(",".join, rows)).encode()
    if kind == "parquet":
        parquet.write_table(pa.table(columns), path)
    elif kind == "xlsx":
        write_xlsx(path, {"S": rows})
    else:
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    assert read(path) == ["AAA", "CCC"], "a name that sequences usually have"
    assert read(path, trained_sequence="Construct") == ["ACD", "ACE"]
    assert read(path, trained_mutation="hgvs_pro") == [MUTATED, WILD_TYPE]
    assert read(path, trained_sequence="Construct", trained_mutation="hgvs_pro") == ["ACD", "ACE"]
    assert read(path, trained_sequence="lost", trained_mutation="hgvs_pro") == [MUTATED, WILD_TYPE]
    assert read(path, sequence="Variant_sequence", trained_sequence="Construct") == ["AAA", "CCC"]
    assert read(path, mutation="hgvs_pro", trained_sequence="Construct") == [MUTATED, WILD_TYPE]
    where = "FILE" if kind == "parquet" else f"FILE, {'row' if kind == 'xlsx' else 'line'} 1"
    assert refusal(path, sequence="construct") == (
        f"{where}: no column is called 'construct' (--sequence-column); its columns are 'hgvs_pro', 'Construct', "
        "'Variant_sequence'. Did you mean 'Construct'?"
    )


def test_a_column_of_mutations_is_found_by_its_cells_and_sequences_go_first(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,change\na,{FIRST}1{OTHER}\nb,WT\n")
    assert read(path) == [MUTATED, WILD_TYPE]
    path.write_text(f"change,again\n{FIRST}1{OTHER},{FIRST}1{OTHER}\n")
    assert "line 1: no column is called 'sequence' or 'mutations'" in refusal(path)
    path.write_text(f"mutant,sequence\n{FIRST}1{OTHER},ACD\n")
    assert read(path) == ["ACD"]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_list_without_a_header_is_refused_instead_of_losing_its_first_candidate(kind: str, tmp_path: Path) -> None:
    path, place = tmp_path / f"a.{kind}", "row" if kind == "xlsx" else "line"

    def written(*rows: str) -> Path:
        cells = [row.split(",") for row in rows]
        return write_xlsx(path, {"S": cells}) if kind == "xlsx" else write(path, rows[0], cells[1:])

    second = f"{WILD_TYPE[1]}2{'A' if WILD_TYPE[1] != 'A' else 'C'}"
    for first in (f"{FIRST}1{OTHER}", "WT"):
        written(f"{first},plate 1", f"{second},plate 2")
        assert refusal(path) == (
            f"FILE, {place} 1: {first!r} reads as a variant, as the cells below it do, where the names of columns are "
            "expected: write a header, such as 'mutations', above it."
        )
        written(first, second)
        assert ("or use --format text for a candidate a line" in refusal(path)) is (kind == "csv")
    assert len(read(written("WT", second), mutation="WT")) == 1, "the user says that it is a name"
    assert len(read(written(f"{FIRST}1{FIRST}x", second))) == 1
    assert len(read(written("Z1A", second))) == 1, "no residue of the wild type"


def test_what_has_no_columns_has_none_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(">a\nACD\n")
    assert refusal(path, sequence="x") == (
        "FILE is read as fasta, which has no columns and no sheets: leave --sequence-column out."
    )
    path = tmp_path / "a.txt"
    path.write_text("ACD\n")
    assert "leave --sheet out" in refusal(path, sheet="x")
    path = tmp_path / "a.csv"
    path.write_text("sequence\nACD\n")
    assert refusal(path, sheet="x") == "FILE is no Excel file, so it has no sheet 'x': leave --sheet out."


@pytest.mark.parametrize(
    ("content", "sequences"),
    [
        ("name\tsequence\na\tACD\n", ["ACD"]),
        ("sequence\nACD\n", ["ACD"]),
        (">a\nACD\nACE\n", ["ACDACE"]),
        ("SEQ\nACD\n", ["SEQ", "ACD"]),
        ("seq\nACD\n", ["ACD"]),
        (f"WT\n{FIRST}1{OTHER}\n", [WILD_TYPE, MUTATED]),
    ],
)
def test_a_text_file_may_be_a_table(content: str, sequences: list[str], tmp_path: Path) -> None:
    for name in ("a.txt", "a.list", "a"):
        (tmp_path / name).write_text(content)
        assert read(tmp_path / name) == sequences


def test_names_in_windows_1252_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("name,sequence\nMüller 3,ACD\n".encode("cp1252"))
    (block,) = read_candidates(path, TASK, None, has_names=True).blocks
    assert list(block.names or ()) == ["Müller 3"]


def test_the_name_of_training_counts_in_its_own_case_and_before_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Sequence,sequence\nACD,ACE\n")
    assert read(path, trained_sequence="sequence") == ["ACE"]
    assert read(path, trained_sequence="Sequence") == ["ACD"]
    assert read(path, trained_sequence="SEQUENCE") == ["ACD"]
    path.write_text(f"sequence,mutant\n{WILD_TYPE},{FIRST}1{OTHER}\n")
    assert read(path, trained_mutation="mutant") == [MUTATED]
    assert read(path, trained_mutation="Mutant") == [MUTATED]
    assert read(path, trained_sequence="sequence", trained_mutation="mutant") == [WILD_TYPE]
    assert read(path, trained_sequence="lost", trained_mutation="mutant") == [WILD_TYPE]


def test_the_wild_type_alone_is_no_peptide(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("WT\n")
    assert read(path) == [WILD_TYPE]
    path.write_text("WT\nWTA\n")
    assert read(path) == ["WT", "WTA"]
    unknown = replace(TASK, wild_type=None)
    path.write_text("WT\n")
    (block,) = read_candidates(path, unknown, None).blocks
    assert block.sequences() == ["WT"]


@pytest.mark.parametrize("word", ["NA", "Nan", "null"])
def test_a_word_for_nothing_is_no_candidate(word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"sequence,name\nACD,a\n{word},b\n{WILD_TYPE},c\n")
    assert refusal(path) == f"FILE, line 3: {word!r} says that there is no sequence; correct the line or remove it."
    for sequence, is_refused in ((WILD_TYPE, True), ("ACDEFGHI", False)):
        path.write_text(f"sequence\n{sequence}\n{word}\n")
        task = replace(TASK, wild_type=None)
        if is_refused:
            with pytest.raises(UserError, match="line 3"):
                list(read_candidates(path, task, None).blocks)
        else:
            (block,) = read_candidates(path, task, None).blocks
            assert block.sequences() == [sequence, word.upper()]


def test_residues_in_groups_of_ten_are_one_sequence(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(">one\nACDEFGHIKL MNPQ\n>two\nACDEFGHIKL MNPQ\nRST\n")
    assert read(path) == ["ACDEFGHIKLMNPQ", "ACDEFGHIKLMNPQRST"]


def test_the_workbook_that_was_trained_on_is_known_where_it_was_moved(tmp_path: Path) -> None:
    rows = [["sequence", "target"], *([cell, i] for i, cell in enumerate(("ACDA", "ACDC", "ACDE")))]
    path = write_xlsx(tmp_path / "a.xlsx", {"Assay": rows, "Plate": [["sequence"], ["ACDF"]]})
    trained = surveyed(path, sheet="Assay").table
    moved = path.rename(tmp_path / "moved.xlsx")
    named = {"sequence": None, "mutation": None, "sheet": None}
    columns = CandidateColumns.like(trained, **named, data=moved)
    with pytest.raises(UserError, match=r"has several sheets that are not empty \('Assay', 'Plate'\)"):
        read_candidates(moved, TASK, None, columns=columns)
    other = write_xlsx(tmp_path / "other.xlsx", {"Assay": [["sequence"], ["ACDF"]], "Plate": rows})
    (block,) = read_candidates(other, TASK, None, columns=columns).blocks
    assert block.sequences() == ["ACDF"]
