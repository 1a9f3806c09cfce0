"""Where the cells of a text table end: odd quotes, lines before the header, and several signs that may divide."""

import csv
import time
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.tables.read import read_columns


def test_blank_lines_before_the_header_are_not_copied_for_each_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    n = 1_000_000
    path.write_bytes(b"\n" * n + b"sequence,target\nACD,1\n")
    start = time.process_time()
    assert read_columns(path).lines.tolist() == [n + 2]
    assert time.process_time() - start < 10


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("block", [32, 1 << 22])
def test_a_quote_within_a_cell_is_a_letter_in_a_file_of_any_size(
    delimiter: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.tables.formats.text_file._BLOCK_BYTES", block)
    monkeypatch.setattr("datasets.tables.formats.delimited._RECORD_BYTES", 100)
    notes = ['5" gel', "x", '"first\nsecond"', '"6"" gel"', 'a""b', '"\n"', "y", f'"a{delimiter}b\n"""', '7"']
    lines = [
        delimiter.join(("sequence", "note", "target")),
        *(delimiter.join((f"AC{'D' * i}", note, str(i))) for i, note in enumerate(notes * 7)),
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    header, *rows = csv.reader(path.read_text().splitlines(keepends=True), delimiter=delimiter, strict=True)
    found = read_columns(path)
    assert [*zip(*found.cells.values(), strict=True)] == [*map(tuple, rows)]
    assert list(found.cells) == header
    path.write_text(path.read_text() + delimiter.join(("ACD", '"8" gel', "1")) + "\n")
    with pytest.raises(UserError, match=r"line 86: the quotes of the cells do not match"):
        read_columns(path)


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["mutations;fitness (log2, norm)", "M1A;1,5", "Q2A;2,5"], ["mutations", "fitness (log2, norm)"]),
        (["mutations;fitness (log2, norm)", "M1A;1,5", "Q2A;2"], ["mutations", "fitness (log2, norm)"]),
        (["mutations\tfitness (log2, norm)", "M1A\t-1,5", "Q2A\t2,5"], ["mutations", "fitness (log2, norm)"]),
        (["mutations;a, b", "M1A;kept, washed", "Q2A;kept"], ["mutations", "a, b"]),
        (["mutations,sites;chains", "M1A,1;2", "Q2A,2;3"], ["mutations", "sites;chains"]),
        (["mutations,sites;chains", 'M1A,"1', ';2"', "Q2A,2;3"], ["mutations", "sites;chains"]),
        (["mutations,sites;chains", "M1A,1;2", '"Q2A;M1A",2'], ["mutations", "sites;chains"]),
    ],
)
def test_the_delimiter_is_the_one_that_leaves_decimal_commas(
    lines: list[str], names: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([*lines, ""]))
    assert list(read_columns(path).cells) == names
