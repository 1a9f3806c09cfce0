"""Workbooks of Excel as tables: what a CSV file of the sheet would hold, within bounds, or a sentence."""

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import UserError
from datasets.sequences.packed import Packed
from datasets.tables.read import read_columns
from tests.helpers.tables import surveyed, variants, write
from tests.helpers.workbooks import DATE, PERCENT, write_ole, write_xls, write_xlsx, xlsx_parts, zipped

SOME = variants()[:60]
ROWS: list[list[Any]] = [["sequence", "fitness"], *([sequence, value] for _, sequence, value in SOME)]


def listed(cells: Packed) -> list[str]:
    return list(cells)


def refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        surveyed(path, split="random", **changes).raw_split()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("kind", ["xlsx", "xls"])
def test_a_sheet_is_read_as_its_csv_whatever_the_file_is_called(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "sequence,fitness", [[sequence, repr(value)] for _, sequence, value in SOME])
    make = write_xlsx if kind == "xlsx" else write_xls
    path = make(tmp_path / "t.csv.data", {"Sheet1": ROWS})
    as_csv, found = surveyed(tmp_path / "t.csv", split="random").raw_split(), surveyed(path, split="random")
    assert found.columns.kind == "Excel"
    assert found.raw_split().content_hash == as_csv.content_hash
    assert found.raw_split().lines == as_csv.lines


def test_cells_are_what_a_user_sees_in_a_csv_file(tmp_path: Path) -> None:
    cells = [1, 12.0, -3, 0.1, 0.30000000000000004, 1e300, True, False, (45000, DATE), (45000.5, DATE), (0.12, PERCENT)]
    seen = ["1", "12", "-3", "0.1", "0.30000000000000004", "1e+300", "TRUE", "FALSE", "2023-03-15"]
    seen += ["2023-03-15 12:00:00", "0.12", "#DIV/0!", "#N/A", " V39A & ü\n2 "]
    path = write_xlsx(
        tmp_path / "t.xlsx", {"S": [["x"], *([cell] for cell in cells), ["#DIV/0!"], ["#N/A"], [seen[-1]]]}
    )
    assert listed(read_columns(path).cells["x"]) == seen


def test_formulas_are_their_values_and_rows_are_numbered_as_excel_numbers_them(tmp_path: Path) -> None:
    rows = [
        [],
        ["", "name", "sequence", "", "target"],
        [],
        ["", '<c r="B4" t="str"><f>A1&amp;"x"</f><v>7x</v></c>', "ACD", "", '<c r="E4"><f>1+1</f><v>2</v></c>'],
        [None] * 5,
        ["", (3, 0), "ACE", "", "#REF!"],
    ]
    columns = read_columns(write_xlsx(tmp_path / "t.xlsx", {"S": rows}))
    assert {name: listed(cells) for name, cells in columns.cells.items()} == {
        "name": ["7x", "3"],
        "sequence": ["ACD", "ACE"],
        "target": ["2", "#REF!"],
    }
    assert (columns.lines.tolist(), columns.place, columns.notes) == ([4, 6], "row", ())


def test_rows_of_errors_are_rows_without_a_measurement(tmp_path: Path) -> None:
    rows = [[*row] for row in ROWS]
    rows[4][1], rows[9][1] = "#DIV/0!", "n.d."
    found = surveyed(write_xlsx(tmp_path / "t.xlsx", {"S": rows}), split="random")
    assert len(found.raw_split().sequence) == len(SOME) - 2
    (note,) = [one for one in found.findings.found if "set aside" in one.text]
    assert (note.where, "#DIV/0!" in note.text) == ("rows 5, 10", True)


def test_a_title_is_passed_over_and_what_may_be_a_header_is_not(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", {"S": [["Assay of 7 May"], [], ["n = 60"], *ROWS]})
    found = surveyed(path, split="random")
    assert found.columns.lines[0] == 5
    assert "what stands above the header in row 4 is passed over" in found.columns.notes
    assert (
        surveyed(path, split="random").raw_split().target
        == surveyed(write_xlsx(tmp_path / "u.xlsx", {"S": ROWS}), split="random").raw_split().target
    )
    rows = [["date", "7 May"], *([*row, i] for i, row in enumerate(ROWS))]
    said = refusal(write_xlsx(tmp_path / "t.xlsx", {"S": rows}))
    assert said.startswith("FILE, row 1: the header should be the first row of the sheet, but this one has 2 cells")
    # A remark beside one row makes no header of it.
    one = [["sequence"], *([sequence] for _, sequence, _ in SOME)]
    one[7].append("bad well")
    found = read_columns(write_xlsx(tmp_path / "t.xlsx", {"S": one}))
    assert list(found.cells) == ["sequence"]
    assert found.notes == ("cells to the right of the header are left out: 'bad well' in row 8",)
    said = refusal(write_xlsx(tmp_path / "t.xlsx", {"S": [["Title"], ["a", "b"], ["1", "2"]]}))
    assert said.startswith("FILE, row 2: no column is called 'target'")
    assert said.endswith(
        "name the right one with --target-column, or each column of replicates with --replicate-column."
    )
    said = refusal(write_xlsx(tmp_path / "t.xlsx", {"S": [["sequence", "x", "x"], ["ACD", 1, 2]]}))
    assert said.startswith("FILE, row 1: two columns are called 'x'")


@pytest.mark.parametrize("make", [write_xlsx, write_xls], ids=["xlsx", "xls"])
def test_one_sheet_is_taken_of_several_one_has_to_be_named(make: Any, tmp_path: Path) -> None:
    path = make(tmp_path / "t", {"Notes": [], "Plate 1": ROWS})
    found = surveyed(path, split="random")
    assert "the sheet 'Plate 1' is read" in found.columns.notes
    assert "sheet" not in found.table.settings
    make(path, {"Notes": [["by Ada"]], "Plate 1": ROWS, "Plate 2": ROWS[:40]})
    assert refusal(path).startswith("FILE has several sheets that are not empty ('Notes', 'Plate 1', 'Plate 2'): name")
    assert refusal(path, sheet="Plate 3").startswith("FILE has no sheet 'Plate 3' (--sheet); its sheets are 'Notes', ")
    found = surveyed(path, split="random", sheet="Plate 2")
    assert (len(found.sequences), found.table.settings["sheet"]) == (39, "Plate 2")
    assert refusal(path, sheet="Notes").startswith("FILE has no rows: after its header a row")
    assert refusal(make(path, {"Notes": [], "Plate 1": []})).startswith("FILE has no sheet with a cell that is not")
    assert refusal(write(tmp_path / "t.csv", "sequence,fitness", ROWS[1:]), sheet="A").endswith(
        "is no Excel file, so it has no sheet 'A': leave --sheet out."
    )


def test_a_hidden_sheet_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", {"Lists": ROWS[:30], "Data": ROWS}, hidden=["Lists"])
    assert len(surveyed(path).sequences) == len(SOME)
    assert len(surveyed(path, sheet="Lists").sequences) == 29


def bomb(path: Path, *, says: int | None, part: str = "sheet1.xml") -> None:
    """A workbook whose sheet, in this part, unpacks to 64 MB, and says so or that it has another size."""
    parts = {
        name.replace("sheet1.xml", part): content.replace(b"sheet1.xml", part.encode())
        for name, content in xlsx_parts({"S": ROWS}).items()
    }
    parts[f"xl/worksheets/{part}"] += b" " * (64 << 20)
    content = zipped(parts)
    if says is not None:
        real = struct.pack("<I", len(parts[f"xl/worksheets/{part}"]))
        assert content.count(real) == 2
        content = content.replace(real, struct.pack("<I", says))
    path.write_bytes(content)


def test_what_is_no_workbook_or_no_honest_one_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    for part in ("sheet1.xml", "sheet1.png"):
        bomb(path, says=None, part=part)
        assert refusal(path) == "FILE unpacks to far more than a table of variants holds: save the sheet as CSV."
    bomb(path, says=100_000)
    assert "Bad CRC-32" in refusal(path)
    far = [[1], ['<c r="XFD1048576"><v>1</v></c>']]
    assert refusal(write_xlsx(path, {"S": far})).startswith("FILE is no Excel file that can be read: it is damaged, or")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.csv", "sequence,fitness\n")
    assert refusal(path).startswith("FILE is a zip file and no Excel file: unpack it")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("content.xml", "<x/>")
    assert refusal(path).startswith("FILE is a spreadsheet of another format than .xlsx and .xls")
    write_ole(path, {"EncryptedPackage": bytes(5000), "EncryptionInfo": bytes(5000)})
    assert refusal(path).startswith("FILE is protected by a password")
    assert refusal(write_xls(path, {"S": ROWS}, has_password=True)).startswith("FILE is protected by a password")
    write_ole(path, {"WordDocument": bytes(5000)})
    assert refusal(path).startswith("FILE is no Excel file that can be read")
    content = write_xlsx(path, {"S": ROWS}).read_bytes()
    path.write_bytes(gzip.compress(content))
    assert refusal(path) == "FILE is packed: unpack it first."
    for cut in (content[:100], content[:-30], content[: len(content) // 2]):
        path.write_bytes(cut)
        assert refusal(path).startswith("FILE is no Excel file that can be read")


def test_many_rows_come_in_blocks_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    rows = [["sequence", "target"], *([f"{'ACDE' * 3}", i] if i % 1000 else ["  ", ""] for i in range(9000))]
    columns = read_columns(write_xlsx(tmp_path / "t.xlsx", {"S": rows}))
    numbers = [i for i in range(9000) if i % 1000]
    assert columns.lines.tolist() == [i + 2 for i in numbers]
    assert listed(columns.cells["target"]) == list(map(str, numbers))
