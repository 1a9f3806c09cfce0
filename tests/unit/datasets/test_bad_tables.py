"""Tables that people really have: what is accepted is told, what is not is one sentence with the line."""

import codecs
import datetime
import gzip
import os
import resource
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from datasets.common.errors import UserError
from datasets.tables import columns as columns_module
from datasets.tables.formats.text_file import MAX_LINE_BYTES
from datasets.tables.read import read_columns
from datasets.tables.survey import survey
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, table, variants, write

GOOD = [(sequence, f"{value:.4f}") for _, sequence, value in variants()[:40]]
TEXT = "sequence,fitness\n" + "".join(f"{sequence},{target}\n" for sequence, target in GOOD)


def refusal(path: Path, **changes: object) -> str:
    """The sentence with which a search refuses the table."""
    with pytest.raises(UserError) as caught:
        surveyed(path, split="random", **changes).raw_split()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


def changed(tmp_path: Path, line: int, sequence: str, target: str = "1.5") -> Path:
    """A good table in which one line is another."""
    rows = list(GOOD)
    rows[line - 2] = (sequence, target)
    return write(tmp_path / "t.csv", "sequence,fitness", rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("crlf.csv", TEXT.replace("\n", "\r\n").encode()),
        ("cr.csv", TEXT.replace("\n", "\r").encode()),
        ("bom.csv", codecs.BOM_UTF8 + TEXT.encode()),
        ("utf16le.csv", TEXT.encode("utf-16")),
        ("utf16be.csv", codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be")),
        ("gzipped.csv.gz", gzip.compress(TEXT.encode())),
        ("tabs.csv", TEXT.replace(",", "\t").encode()),
        ("semicolons.csv", TEXT.replace(",", ";").encode()),
        ("no last end.csv", TEXT.rstrip().encode()),
        ("blank lines.csv", TEXT.replace("\n", "\n\n").encode()),
        ("quoted.csv", TEXT.replace(WILD_TYPE, f'"{WILD_TYPE}"').encode()),
        ("all quoted.csv", "".join(f'"{line}"\n' for line in TEXT.replace(",", '","').splitlines()).encode()),
        ("lower case.csv", TEXT.replace(WILD_TYPE, WILD_TYPE.lower()).encode()),
        ("blanks.csv", TEXT.replace("\n", " \n").replace("fitness ", "fitness").encode()),
        ("spreadsheet.csv", (TEXT + ",\n,\n").encode()),
        ("flip.fasta", "".join(f">v{i} TARGET={t}\n{s[:9]}\n{s[9:]}\n" for i, (s, t) in enumerate(GOOD)).encode()),
        ("crlf.fasta", "".join(f">TARGET={t}\r\n{s}\r\n" for s, t in GOOD).encode()),
        ("gzipped.fasta.gz", gzip.compress("".join(f">TARGET={t}\n{s}\n" for s, t in GOOD).encode())),
    ],
)
def test_what_is_written_otherwise_is_read_the_same(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    found = surveyed(tmp_path / name)
    assert [*zip(found.sequences, found.target.tolist(), strict=True)] == [(s, float(t)) for s, t in GOOD]
    found.findings.raise_refused()


def test_parquet_is_read_the_same(tmp_path: Path) -> None:
    sequences, targets = zip(*GOOD, strict=True)
    table = pa.table({"sequence": sequences, "score": list(map(float, targets)), "other": [[1]] * len(GOOD)})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = surveyed(tmp_path / "t.parquet")
    assert [*zip(found.sequences, found.target.tolist(), strict=True)] == [(s, float(t)) for s, t in GOOD]
    parquet.write_table(table.set_column(0, "sequence", pa.array([None, *sequences[1:]])), tmp_path / "t.parquet")
    assert refusal(tmp_path / "t.parquet").startswith("FILE, row 1: the sequence is empty")


def test_text_of_any_kind_and_dates_in_parquet_are_read(tmp_path: Path) -> None:
    day = datetime.datetime(2026, 3, 1, 12, 30)
    columns = {
        "sequence": pa.array(["AC", None, "AD"]).cast(pa.string_view()),
        "day": pa.array([day.date(), None, day.date()]),
        "time": pa.array([day, None, day], type=pa.timestamp("ns")),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert {name: list(cells) for name, cells in read_columns(tmp_path / "t.parquet").cells.items()} == {
        "sequence": ["AC", "", "AD"],
        "day": ["2026-03-01", "", "2026-03-01"],
        "time": ["2026-03-01 12:30:00", "", "2026-03-01 12:30:00"],
    }


def test_parquet_with_columns_without_a_name_and_days_that_python_has_none_for_is_read(tmp_path: Path) -> None:
    far = 253_402_300_800_000_000  # the first microsecond of the year 10000
    columns = {
        "sequence": pa.array(["AC", "AD", None]),
        "day": pa.array([far // 86_400_000_000, None, 0], type=pa.date32()),
        "time": pa.array([far, None, 0], type=pa.timestamp("us")),
        "left out": pa.array([[1], [2], [3]]),
        "target": pa.array([1, 2, 3]),
    }
    every = [*columns.values(), columns["target"], columns["left out"], columns["sequence"]]
    parquet.write_table(pa.Table.from_arrays(every, names=[*columns, "", "", ""]), tmp_path / "t.parquet")
    assert {name: list(cells) for name, cells in read_columns(tmp_path / "t.parquet").cells.items()} == {
        "sequence": ["AC", "AD", ""],
        "day": ["10000-01-01", "", "1970-01-01"],
        "time": ["10000-01-01 00:00:00.000000", "", "1970-01-01 00:00:00"],
        "target": ["1", "2", "3"],
    }


def test_columns_and_rows_are_bounded_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.table({str(i): [1] for i in range(10_001)}), tmp_path / "t.parquet")
    assert refusal(tmp_path / "t.parquet") == "FILE: the header names 10,001 columns, expected 10,000."
    monkeypatch.setattr(columns_module, "MAX_ROWS", 39)
    (tmp_path / "t.csv").write_text(TEXT)
    assert refusal(tmp_path / "t.csv") == "FILE has more than 39 rows: divide it."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "FILE is empty"),
        (codecs.BOM_UTF8, "FILE has no header"),
        (b"\n \n", "FILE has no header"),
        (b"sequence,fitness\n", "FILE has no rows"),
        (
            TEXT.replace(",", "|").encode(),
            "no column is called 'target' or the like; its columns are 'sequence|fitness'",
        ),
        (TEXT.replace("sequence", "fitness", 1).encode(), "line 1: two columns are called 'fitness'"),
        (TEXT.replace("\n", ",1\n", 3).replace(",1\n", "\n", 1).encode(), "line 2: 3 cells, but the header has 2"),
        (TEXT.encode().replace(GOOD[3][1].encode(), b"0.5\x81"), "line 5: the byte 0x81 is not UTF-8"),
        (TEXT.encode().replace(GOOD[3][1].encode(), b"\0"), "line 5: there is a zero byte"),
        (TEXT.encode("utf-16-le"), "line 1: there is a zero byte"),
        (TEXT.encode("utf-32"), "line 1: the text is in UTF-32"),
        (TEXT.encode("utf-16") + b"\0", "is not valid UTF-16"),
        (b"PK\x03\x04 and more", "is no Excel file that can be read"),
        (gzip.compress(TEXT.encode())[:-20], "not a gzip file that can be unpacked"),
        (b"<html><table>", "a web page or XML, which some programs call .xls"),
        (b"PAR1\x15 and nothing", "is not a Parquet file that can be read"),
        (b"BZh91AY&SY and nothing", "is no table of text but packed with bzip2"),
        (b">a TARGET=1\n>b TARGET=2\nACD\n", "line 1: the header is followed by no sequence"),
        (b">a TARGET=1 TARGET=2\nACD\n", "line 1: the header has TARGET= twice"),
        (TEXT.replace(GOOD[5][0], '"' + GOOD[5][0]).encode(), "the quotes of the cells do not match"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert sentence in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("sequence", "target", "sentence"),
    [
        (WILD_TYPE, "-inf", "FILE, line 7: the target '-inf' is not a finite number"),
        (WILD_TYPE, "1e39", "FILE, line 7: the target '1e39' is not a finite number"),
        (WILD_TYPE, "high", "FILE, line 7: the target 'high' is not a number"),
        (WILD_TYPE, "1_000", "FILE, line 7: the target '1_000' is not a number"),
        ("", "1", "FILE, line 7: the sequence is empty"),
        (WILD_TYPE[:5] + "*" + WILD_TYPE[6:], "1", "FILE, line 7: the residue '*' at position 6 is not one of"),
        (WILD_TYPE[:5] + "-" + WILD_TYPE[5:], "1", "FILE, line 7: the sequence has a gap ('-') at position 6, and the"),
        ("-" * len(WILD_TYPE), "1", "FILE, line 7: the sequence holds gaps alone; remove the line"),
        (WILD_TYPE[:5] + "J" + WILD_TYPE[6:], "1", "FILE, line 7: the residue 'J' at position 6"),
        (WILD_TYPE[:5] + "ä" + WILD_TYPE[6:], "1", "FILE, line 7: the residue 'Ä' at position 6"),
    ],
)
def test_a_bad_row_is_named(sequence: str, target: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(changed(tmp_path, 7, sequence, target))


def test_a_column_of_text_is_the_wrong_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sequence,target\n" + "".join(f"{row[0]},plate{i}\n" for i, row in enumerate(GOOD)))
    assert refusal(tmp_path / "t.csv").endswith("; name another column than 'target' with --target-column.")


def test_a_line_of_100_mb_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.write(b"sequence,fitness\nACD,1\n")
        for _ in range(100):
            file.write(b"A" * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    assert refusal(path).startswith(f"FILE, line 3: the line has more than {MAX_LINE_BYTES:,} bytes")
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


def test_a_long_line_among_others_is_found_in_the_middle_of_a_block(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TEXT + "A" * (MAX_LINE_BYTES + 1) + ",1\n" + TEXT)
    assert refusal(path).startswith(f"FILE, line {len(GOOD) + 2}: the line has more than")


@pytest.mark.parametrize("end", ["rows.close()", "del rows", "raise SystemExit(0)"])
def test_a_program_ends_in_the_middle_of_a_table(end: str, tmp_path: Path) -> None:
    """A thread that read on was still at it when the interpreter ended, which aborted."""
    (tmp_path / "t.csv").write_text(TEXT)
    program = f"""
import time
from pathlib import Path
from datasets.tables.formats import text_file
from datasets.tables.read import open_table

text_file._BLOCK_BYTES = 100
read = text_file._read
text_file._read = lambda *which: time.sleep(0.1) or read(*which)
rows = iter(open_table(Path("t.csv")).batches)
next(rows)
{end}
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("block", [3, 7, 20, 1 << 20])
@pytest.mark.parametrize("divided", [10, 1 << 20])
def test_line_numbers_are_those_of_an_editor(
    block: int, divided: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is left out, and wherever cells have line breaks."""
    monkeypatch.setattr("datasets.tables.formats.text_file._BLOCK_BYTES", block)
    monkeypatch.setattr("datasets.tables.formats.delimited._BLOCK_BYTES", divided)
    some = 'ACD,1,x\n \n\nACD,2,"a\nb"\n  \nACE,3,y\n"a ""c""\n",,\n,,\nACF,5,"\n\n"\nACG,6,\n'
    (tmp_path / "t.csv").write_text("sequence,fitness,remark\n" + 3 * some)
    columns = read_columns(tmp_path / "t.csv")
    assert columns.lines.tolist() == [n + first for first in (0, 14, 28) for n in (2, 6, 8, 10, 14, 15)]
    assert list(columns.cells["remark"]) == 3 * ["x", "a\nb", "y", "", "\n\n", ""]
    assert list(columns.cells["sequence"])[3] == 'a "c"\n'


def test_line_numbers_are_right_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.tables.formats.text_file._BLOCK_BYTES", 100)
    rows = [*GOOD, (WILD_TYPE, "text")]
    for end in ("\n", "\r\n"):
        path = write(tmp_path / "t.csv", "sequence,fitness", rows, end=end)
        assert refusal(path).startswith(f"FILE, line {len(rows) + 1}: the target 'text'")
        assert read_columns(path).lines.tolist() == list(range(2, len(rows) + 2))


@pytest.mark.parametrize("n_before", [0, 1, 40_000])
def test_long_rows_are_read_with_and_without_quotes(n_before: int, tmp_path: Path) -> None:
    plain, broken = "A" * (MAX_LINE_BYTES - 100), "A\n" * (MAX_LINE_BYTES // 2 - 100)
    cells = [*["ACDEFGHIKL"] * n_before, plain, "AC", plain, broken, "AC", plain, broken, broken, "AC"]
    path = tmp_path / "t.csv"
    path.write_text("sequence,x\n" + "".join(f'"{cell}",1\n' if "\n" in cell else f"{cell},1\n" for cell in cells))
    columns = read_columns(path)
    assert list(columns.cells["sequence"]) == cells
    assert set(columns.cells["x"]) == {"1"}
    assert columns.lines.tolist() == [1 + n for n in accumulate(cell.count("\n") + 1 for cell in cells)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("cell", "said"), [(b"\0", "line 7: there is a zero byte"), (b"\x81", "line 7: the byte 0x81")]
)
def test_lines_are_counted_whatever_ends_them(end: str, cell: bytes, said: str, tmp_path: Path) -> None:
    content = ("sequence,fitness\n   \n\n" + TEXT.split("\n", 1)[1]).replace("\n", end).encode()
    (tmp_path / "t.csv").write_bytes(content.replace(GOOD[3][1].encode(), cell))
    assert said in refusal(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(
        content.replace(GOOD[3][1].encode(), b'"a\nb"').replace(GOOD[5][1].encode(), b"1,2")
    )
    assert "line 10: 3 cells, but the header has 2" in refusal(tmp_path / "t.csv")


def test_one_class_and_nucleotides_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", [(sequence, 1) for sequence, _ in GOOD])
    assert "every target is 1, so there is nothing to rank" in refusal(path)
    path = write(tmp_path / "t.csv", "sequence,fitness", [("ACGT" * 8 + "ACGT"[i % 4], i) for i in range(9)])
    assert "as DNA does" in refusal(path)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("V1A", "names V at position 1, where the wild type has C"),
        ("C1A:C1D", "names position 1 twice"),
        ("C99A", "names position 99, but the wild type has 32 residues"),
        ("C1*", "is a stop codon; models know whole proteins alone: remove the lines with a stop codon"),
        ("c.3T>A", "is no mutation such as V39A"),
        ("", "the cell with the mutations is empty"),
    ],
)
def test_mutations_that_do_not_fit_the_wild_type_are_named(cell: str, sentence: str, tmp_path: Path) -> None:
    wild_type = "C" + WILD_TYPE[1:]
    rows = [("WT", 1.0), ("C1A", 0.5), (cell, 0.1), ("C1D", 0.3), ("C1E", 0.4), ("C1F", 0.2)]
    path = write(tmp_path / "t.csv", "mutant,fitness", rows)
    said = refusal(path, wild_type=wild_type, mutation_column="mutant")
    assert said.startswith("FILE, line 4: ")
    assert sentence in said


def test_a_table_of_mutations_without_a_header_is_refused(tmp_path: Path) -> None:
    rows = [(text, f"{value:.4f}") for text, _, value in variants()[1:40]]
    path = write(tmp_path / "a.csv", ",".join(rows[0]), rows[1:])
    for named in (None, rows[0][1]):
        assert refusal(path, wild_type=WILD_TYPE, target_column=named) == (
            f"FILE, line 1: {rows[0][0]!r} reads as a variant, as the cells below it do, where the names of columns "
            "are expected: write a header, such as 'mutations', above it."
        )
    write(path, "WT,target", rows)
    assert len(surveyed(path, wild_type=WILD_TYPE, mutation_column="WT", split="random").target) == len(rows)


@pytest.mark.parametrize("word", ["NA", "nan", "ND", "NULL", "missing"])
def test_a_word_for_nothing_is_no_peptide_but_among_peptides(word: str, tmp_path: Path) -> None:
    path = changed(tmp_path, 4, word)
    assert (
        refusal(path) == f"FILE, line 4: the sequence {word!r} says that there is none; correct the line or remove it."
    )
    again = survey(path, table(path, sequence_column="sequence", target_column="fitness"), is_reread=True)
    assert word.upper() in list(again.sequences), "as when it was accepted"
    rows = [(sequence[:8] if i != 2 else word, target) for i, (sequence, target) in enumerate(GOOD)]
    write(path, "sequence,fitness", rows)
    assert word.upper() in list(surveyed(path, split="random", replicates="mean").sequences)
    rows = [(sequence, "EVQLVESGGG" if i != 2 else word, target) for i, (sequence, target) in enumerate(GOOD)]
    write(path, "heavy,light,fitness", rows)
    said = refusal(path, sequence_column="heavy, light", chain_columns=("heavy", "light"))
    assert f"line 4: the chain L says that there is none ({word.upper()!r})" in said
