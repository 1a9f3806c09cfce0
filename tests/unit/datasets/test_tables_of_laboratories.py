"""Tables as plate readers, spreadsheets and MaveDB write them."""

from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.sequences.mutations import MutationError, Mutator, are_mutations, normal_form
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, variants, write

PROTEIN = "MKTVDLA"
SOME = variants()[:60]
ROWS = [(sequence, f"{value:.4f}") for _, sequence, value in SOME]


@pytest.mark.parametrize(
    ("written", "sequence", "normal"),
    [
        ("p.Val4Ala", "MKTADLA", "V4A"),
        ("p.(Val4Ala)", "MKTADLA", "V4A"),
        ("p.[Val4Ala;Asp5Gly]", "MKTAGLA", "V4A:D5G"),
        ("p.Val4Ala;p.Asp5Gly", "MKTAGLA", "V4A:D5G"),
        ("[V4A, D5G]", "MKTAGLA", "V4A:D5G"),
        ("(V4A)(D5G)", "MKTAGLA", "V4A:D5G"),
        ("V4A_D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A-D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A.D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A|D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A / D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A & D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A\u2013D5G", "MKTAGLA", "V4A:D5G"),
        ("V4A__D5G", "MKTAGLA", "V4A:D5G"),
        ("[V4A][D5G]", "MKTAGLA", "V4A:D5G"),
        ("['V4A', 'D5G']", "MKTAGLA", "V4A:D5G"),
        ("{V4A;D5G}", "MKTAGLA", "V4A:D5G"),
        ("4P.5G", "MKTPGLA", "4P:5G"),
        ("2P.3W", "MPWVDLA", "2P:3W"),
        ("\u00a0V4A\t", "MKTADLA", "V4A"),
        ("[]", PROTEIN, "WT"),
        ("p.[=]", PROTEIN, "WT"),
        ("D005G-V004A", "MKTAGLA", "D5G:V4A"),
        ("4A", "MKTADLA", "4A"),
        ("4A_5G", "MKTAGLA", "4A:5G"),
        ("p.Lys2=", PROTEIN, "K2="),
        ("_wt", PROTEIN, "WT"),
        ("_sy", PROTEIN, "WT"),
        ("p.(=)", PROTEIN, "WT"),
    ],
)
def test_mutations_are_read_as_people_write_them(written: str, sequence: str, normal: str) -> None:
    assert Mutator(PROTEIN).apply(written) == sequence
    assert normal_form(written) == normal
    assert normal == "WT" or are_mutations([written])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("p.Lys2Ter", "stop codon"),
        ("p.Lys2*", "stop codon"),
        ("p.Lys2del", "deletion"),
        ("V4-", "deletion"),
        ("p.Val3Ala", "names V at position 3, where the wild type has T"),
        ("9A", "names position 9"),
        ("V4A_4G", "names position 4 twice"),
        ("p.Foo4Ala", "is no mutation"),
        ("p.Met1_Lys2insAla", "is an insertion"),
        ("p.[Val4Ala];[Asp5Gly]", "is of two proteins, or may be"),
        ("p.[Val4Ala(;)Asp5Gly]", "is of two proteins, or may be"),
        ("V4X", r"'V4X' has two readings, a stop codon \(write V4\*\)"),
        ("A1C:4x", "'4x' has two readings"),
    ],
)
def test_what_they_cannot_mean_is_said(written: str, says: str) -> None:
    with pytest.raises(MutationError, match=says):
        Mutator(PROTEIN).apply(written)


@pytest.mark.parametrize("cell", ["A1", "plate1", "1.5", "2024-01-05", "ABC123", "kinase"])
def test_other_columns_are_no_mutations(cell: str) -> None:
    assert not are_mutations([cell])


def test_a_table_of_mavedb_is_read(tmp_path: Path) -> None:
    three = {"A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "H": "His", "T": "Thr"}

    def hgvs(name: str) -> str:
        parts = [f"{three[one[0]]}{one[1:-1]}{three[one[-1]]}" for one in name.split(":") if name != "WT"]
        return "_wt" if not parts else f"p.{parts[0]}" if len(parts) == 1 else f"p.[{';'.join(parts)}]"

    rows = [(f"urn:mavedb:1#{i}", "NA", hgvs(name), f"{value:.4f}") for i, (name, _, value) in enumerate(SOME)]
    path = write(tmp_path / "mave.csv", "accession,hgvs_nt,hgvs_pro,score", rows)
    found = surveyed(path, wild_type=WILD_TYPE, split="random")
    assert found.table.mutation_column == "hgvs_pro"
    assert list(found.raw_split().sequence) == [sequence for sequence, _ in ROWS]
    (shown,) = [(one.level, one.text, one.lines) for one in found.findings.found if "is read as" in one.text]
    assert shown == ("note", "'p.His10Ala' is read as H10A, and mutations like it", (3,))


def test_how_a_spelling_is_read_is_shown_once_and_only_where_it_is_another(tmp_path: Path) -> None:
    rows = [(name, f"{value:.4f}") for name, _, value in SOME]
    path = write(tmp_path / "t.csv", "mutant,fitness", rows)
    assert "is read as" not in str(surveyed(path, wild_type=WILD_TYPE).findings.found)
    rows[2:5] = [("nothing?", "0.1"), ("h10?", "0.2"), (" 10d ", "0.3")]
    path = write(tmp_path / "t.csv", "mutant,fitness", rows)
    found = surveyed(path, wild_type=WILD_TYPE, mutation_column="mutant").findings.found
    assert [one.text for one in found if "is read as" in one.text] == ["'10d' is read as H10D, and mutations like it"]


def test_mutations_without_the_residue_of_the_wild_type_are_shown_with_it(tmp_path: Path) -> None:
    rows = [(name if name == "WT" else ":".join(one[1:] for one in name.split(":")), value) for name, _, value in SOME]
    own = f"5{WILD_TYPE[4]}"
    path = write(tmp_path / "t.csv", "mutant,fitness", [*rows, (own, 1.0)])
    found = surveyed(path, wild_type=WILD_TYPE).findings.found
    shown = [(one.text, one.lines) for one in found if "read as" in one.text]
    first = next(i for i, (name, _) in enumerate(rows) if name != "WT")
    assert shown == [
        (f"{rows[first][0]!r} is read as {SOME[first][0]}, and mutations like it", (first + 2,)),
        (f"{own!r}, read as {own[-1]}{own}, names a residue that the wild type has there", (len(rows) + 2,)),
    ]


@pytest.mark.parametrize(
    "word", ["", "n.d.", "NA", "N/A", "nan", "#DIV/0!", " - ", "#N/A", "n. d.", "\u2013", "Not determined"]
)
def test_rows_without_a_measurement_are_set_aside_and_counted(word: str, tmp_path: Path) -> None:
    rows = [(sequence, word if i in (3, 8) else value) for i, (sequence, value) in enumerate(ROWS)]
    found = surveyed(write(tmp_path / "t.csv", "sequence,fitness", rows), split="random")
    assert len(found.raw_split().sequence) == len(ROWS) - 2
    (note,) = [one for one in found.findings.found if "set aside" in one.text]
    assert (note.level, note.lines, note.n) == ("note", (5, 10), 2)


def test_a_table_of_which_nothing_was_measured_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", [(sequence, "n.d.") for sequence, _ in ROWS])
    with pytest.raises(UserError, match="no row with a sequence and a target"):
        surveyed(path, split="random")


def test_comments_before_the_header_are_passed_over_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    rows = [(sequence, "high" if i == 2 else value) for i, (sequence, value) in enumerate(ROWS)]
    path = write(tmp_path / "t.csv", "# plate 7\n#\n# read by Ada, 2024-01-05\nsequence,fitness", rows)
    found = surveyed(path, split="random")
    assert any("before the header, up to line 3" in one.text for one in found.findings.found)
    with pytest.raises(UserError, match="line 7: the target 'high'"):
        found.raw_split()
    path.write_text(path.read_text().replace("high", "1,5"))
    with pytest.raises(UserError, match="line 7: 3 cells, but the header has 2"):
        surveyed(path, split="random")


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_the_line_in_which_excel_names_the_sign_between_cells_is_passed_over(first: str, tmp_path: Path) -> None:
    rows = "".join(f"{sequence};{value.replace('.', ',')}\n" for sequence, value in ROWS)
    (tmp_path / "t.csv").write_text(f"{first}\nsequence;fitness\n{rows}")
    found = surveyed(tmp_path / "t.csv", split="random")
    assert list(found.raw_split().sequence) == [sequence for sequence, _ in ROWS]
    assert any("before the header, up to line 1, is passed over" in one.text for one in found.findings.found)


def test_a_title_that_is_taken_for_the_header_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "My assay\n\nsequence,fitness", ROWS)
    with pytest.raises(UserError, match=r"line 3: 2 cells, but the header has 1 .*, or remove line 1 if it is a title"):
        surveyed(path, split="random")


def test_several_columns_of_mutations_are_named_and_none_is_picked(tmp_path: Path) -> None:
    rows = [(f"A{i + 3}G", name, f"{value:.4f}") for i, (name, _, value) in enumerate(SOME)]
    path = write(tmp_path / "t.csv", "nt_change,aa_change,fitness", rows)
    with pytest.raises(UserError, match="several columns that read as mutations, 'nt_change', 'aa_change': name the"):
        surveyed(path, wild_type=WILD_TYPE, split="random")
    found = surveyed(path, wild_type=WILD_TYPE, mutation_column="aa_change", split="random")
    assert list(found.raw_split().sequence) == [sequence for sequence, _ in ROWS]


def test_the_target_is_no_standard_error_of_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", ROWS)
    with pytest.raises(UserError, match="--error-column 'fitness' is the target itself"):
        surveyed(path, split="random", error_column="fitness")


def test_stops_at_the_end_of_every_sequence_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "sequence,fitness", [(f"{sequence}*", value) for sequence, value in ROWS])
    found = surveyed(path, split="random")
    assert list(found.raw_split().sequence) == [sequence for sequence, _ in ROWS]
    assert any("stop codon, which is left out" in one.text for one in found.findings.found)
    some = [(f"{sequence}*" if i else sequence, value) for i, (sequence, value) in enumerate(ROWS)]
    with pytest.raises(UserError, match="a stop codon"):
        surveyed(write(tmp_path / "t.csv", "sequence,fitness", some), split="random").raw_split()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [1, 7, 1 << 19])
def test_text_of_older_programs_is_windows_1252(
    block: int, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.tables.formats.text_file._BLOCK_BYTES", block)
    remarks = ["", "20 °C", "naïve", "5 µM – “dry”", "é"]
    rows = [(*row, remarks[i % 5]) for i, row in enumerate(ROWS[:10])]
    path = write(tmp_path / "t.csv", "sequence,fitness,remark", rows, end=end, encoding="cp1252")
    found = surveyed(path, split="random")
    assert list(found.columns.cells["remark"]) == [row[-1] for row in rows]
    assert found.columns.lines.tolist() == list(range(2, 12))
    assert "the text is not UTF-8 and is read as Windows-1252: line 3 has '°'" in found.columns.notes
    same = surveyed(write(tmp_path / "u.csv", "sequence,fitness,remark", rows, end=end), split="random")
    assert same.columns.notes == ()
    assert same.raw_split().content_hash == found.raw_split().content_hash
    content = path.read_bytes()
    for odd, says in (
        (content.replace(b"na\xefve", b"na\x81ve", 1), "line 4: the byte 0x81 is not UTF-8, and not Windows-1252"),
        (content.replace(b"\xb0", b"\xc2\xb0", 1), "line 4: the byte 0xef is not UTF-8; save"),
        (b"\xef\xbb\xbf" + content, "line 3: the byte 0xb0 is not UTF-8; save"),
    ):
        path.write_bytes(odd)
        with pytest.raises(UserError, match=says):
            surveyed(path, split="random")


def test_fasta_in_windows_1252_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.fasta"
    path.write_bytes(
        "".join(f">ü{i} TARGET={value}\n{sequence}\n" for i, (sequence, value) in enumerate(ROWS)).encode("cp1252")
    )
    found = surveyed(path, split="random")
    assert found.columns.cells["name"][3] == "ü3"
    assert any("Windows-1252: line 1 has 'ü'" in note for note in found.columns.notes)


@pytest.mark.parametrize(
    "header",
    [
        '"Kd (nM, 37 C, pH 7)";sequence;target',
        "Kd (nM, 37 C, pH 7, 1 h);sequence;target",
        "PAR1;sequence;target",
        "BZh9;sequence;target",
    ],
)
def test_the_delimiter_is_the_one_that_divides_the_rows_too(header: str, tmp_path: Path) -> None:
    rows = [(f"{value:.1f}".replace(".", ","), sequence, value) for _, sequence, value in variants()[:30]]
    found = surveyed(write(tmp_path / "t.csv", header, rows))
    assert list(found.columns.cells) == [name.strip('"') for name in header.split(";")]
    assert found.target.tolist() == [value for _, _, value in variants()[:30]]


def test_letters_that_become_residues_in_capitals_are_none(tmp_path: Path) -> None:
    rows = [(sequence, value) for _, sequence, value in variants()[:30]]
    for odd, place in (("\u00df", 3), ("\u0131", 3), ("\u017f", 3)):
        path = write(tmp_path / "t.csv", "sequence,target", [*rows, (f"{WILD_TYPE[:2]}{odd}{WILD_TYPE[3:]}", 1)])
        with pytest.raises(UserError, match=f"line 32: the residue '{odd}' at position {place} is not one of"):
            surveyed(path, split="random").raw_split()
    path = write(tmp_path / "c.csv", "sequence,target", [(f"{s}|AC", v) for s, v in rows] + [("AC\u00df|AC", 1)])
    with pytest.raises(UserError, match="line 32: the residue '\u00df' at position 3 of the chain A"):
        surveyed(path, split="random").raw_split()


def test_the_cell_that_is_no_mutation_is_named_where_the_column_is_called_so(tmp_path: Path) -> None:
    rows = [[name, value] for name, _, value in variants()[:30]]
    rows[4][0] = "see notes"
    path = write(tmp_path / "t.csv", "mutant,target", rows)
    with pytest.raises(UserError, match=r"line 6: 'see notes' in 'mutant' is no mutation such as V39A: correct the"):
        surveyed(path, wild_type=WILD_TYPE)
    for row in rows:
        row[0] = row[0].replace("see notes", "see plate") if " " in row[0] else "A:M1A:B:K2C"
    path = write(tmp_path / "t.csv", "mutant,target", rows)
    with pytest.raises(UserError, match=r"line 6: 'see plate' in 'mutant' is no mutation"):
        surveyed(path, wild_type="MKV|MKV")
    for row in rows:
        row[0] = "sample"
    with pytest.raises(UserError, match="no column is called 'sequence' or the like"):
        surveyed(write(tmp_path / "t.csv", "mutant,target", rows), wild_type=WILD_TYPE)


def test_a_file_that_marks_no_test_row_is_told_to_mark_some(tmp_path: Path) -> None:
    rows = [(sequence, value, "train") for _, sequence, value in variants()[:30]]
    with pytest.raises(UserError, match=r"no row is left for test \(the file's own.*; mark some in the column 'set'"):
        surveyed(write(tmp_path / "t.csv", "sequence,target,set", rows)).raw_split()
