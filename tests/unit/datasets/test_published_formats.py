"""Files as benchmarks publish them: FLIP2's CSVs, ProteinGym's assays with their reference file, biotrainer's FASTA."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets.common.errors import UserError
from datasets.scores.judge import refuse_derived
from datasets.scores.keyed import read_scores_file
from datasets.tables.formats.text_file import first_bytes
from datasets.tables.read import is_fasta, read_columns
from datasets.tables.reference import find_wild_type
from datasets.tables.survey import Survey
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.tables import surveyed, variants, write

ROWS = variants()[1::9][:100]  # without the wild type
ID = "SYNTH_LAB_Author_2026"


def part(i: int) -> str:
    return "test" if i % 4 == 0 else "train"


def parts(found: Survey) -> Counter[tuple[str, str]]:
    raw = found.raw_split()
    return Counter(zip(raw.part, raw.validation, strict=True))


EXPECTED = {("test", ""): 25, ("train", "True"): 10, ("train", ""): 65}


@pytest.mark.parametrize(
    ("header", "marks"),
    [
        ("sequence,target,set,validation", ("True", "")),
        (",sequence,target,set,validation", ("True", "False")),  # the first column is that of pandas' index
        ("sequence,target,set,validation", ("1.0", "0.0")),
    ],
)
def test_csv_of_flip2(tmp_path: Path, header: str, marks: tuple[str, str]) -> None:
    index = header.startswith(",")
    lines = [header]
    for i, (_, sequence, value) in enumerate(ROWS):
        mark = marks[0] if i % 10 == 1 else marks[1]
        lines.append(f"{f'{i},' * index}{sequence},{value:.4f},{part(i)},{mark}")
    path = tmp_path / "one_vs_many.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert parts(surveyed(path)) == EXPECTED


def test_rows_of_flip_without_a_set_are_no_part_of_the_split(tmp_path: Path) -> None:
    rows = [(s, v, "" if i < 3 else part(i), "True" if i % 10 == 1 else "") for i, (_, s, v) in enumerate(ROWS)]
    path = write(tmp_path / "t.csv", "sequence,target,set,validation", rows)
    found = surveyed(path)
    assert len(found.raw_split().sequence) == len(ROWS) - 3
    (note,) = [one for one in found.findings.found if "no part of the split" in one.text]
    assert (note.level, note.where) == ("note", "lines 2, 3, 4")
    # Elsewhere it is a mistake, and so is a column without any.
    bare = write(tmp_path / "bare.csv", "sequence,target,set", [row[:3] for row in rows])
    with pytest.raises(UserError, match="line 2: the set '' is neither"):
        surveyed(bare).raw_split()
    none = write(tmp_path / "none.csv", "sequence,target,set,validation", [(*row[:2], "", "") for row in rows])
    with pytest.raises(UserError, match="line 2: the set '' is neither"):
        surveyed(none).raw_split()


@pytest.mark.parametrize(
    ("start", "is_one"),
    [
        ("; made by hand\n;and long" + "." * 1000 + "\n\n>a TARGET=1\n", True),
        ("\n  \n>a TARGET=1\n", True),
        (";sequence;target\n", False),
    ],
)
def test_fasta_may_begin_with_comments(start: str, is_one: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(start + "ACD\n", encoding=encoding)
        assert is_fasta(first_bytes(path)) is is_one
        if is_one:
            assert list(read_columns(path).cells["sequence"]) == ["ACD"]


@pytest.mark.parametrize("is_in_set", [False, True])
def test_fasta_of_biotrainer(tmp_path: Path, is_in_set: bool) -> None:
    lines = []
    for i, (_, sequence, value) in enumerate(ROWS):
        is_validation = i % 10 == 1
        mark = (
            f"SET={'val' if is_validation else part(i)}" if is_in_set else f"SET={part(i)} VALIDATION={is_validation}"
        )
        lines += [f">Seq{i} {mark} TARGET={value:.4f}", sequence]
    path = tmp_path / "sequences.fasta"
    path.write_text("\n".join(lines))
    found = surveyed(path)
    assert parts(found) == EXPECTED
    assert found.target[3] == pytest.approx(ROWS[3][2], abs=1e-4)


def write_assay(folder: Path, *, header: str = "mutant,mutated_sequence,DMS_score,DMS_score_bin,fold_random_5") -> Path:
    rows = []
    for i, (text, sequence, value) in enumerate(ROWS):
        cells = {
            "mutant": text,
            "mutated_sequence": sequence,
            "DMS_score": f"{value:.5f}",
            "DMS_score_bin": int(round(value, 5) > 0.15),
            "fold_random_5": i % 5,
            "esm1v": i * 37 % 91,
        }
        rows.append([cells[name] for name in header.split(",")])
    return write(folder / f"{ID}.csv", header, rows)


def write_reference(folder: Path, rows: list[tuple[str, str, str]] | None = None) -> Path:
    rows = rows or [("OTHER", "OTHER.csv", "MKV"), (ID, f"{ID}.csv", WILD_TYPE)]
    return write(folder / "DMS_substitutions.csv", "DMS_id,DMS_filename,target_seq", rows)


def test_assay_of_proteingym_with_its_reference_file(tmp_path: Path) -> None:
    path, reference = write_assay(tmp_path), write_reference(tmp_path)
    assert find_wild_type(reference, path) == WILD_TYPE
    found = surveyed(path, wild_type=find_wild_type(reference, path), split="two_vs_rest")
    assert (found.table.target_column, found.table.sequence_column) == ("DMS_score", "mutated_sequence")
    assert found.table.wild_type == WILD_TYPE
    assert found.common.n_mutations is not None
    mutated = [text.count(":") + 1 for text, _, _ in ROWS]
    assert found.common.n_mutations.tolist() == mutated
    # By mutations alone, and where the names of files alone say which row it is, in another format.
    bare = write_assay(tmp_path, header="mutant,DMS_score,DMS_score_bin")
    by_file = write(tmp_path / "by_file.csv", "DMS_filename,target_seq", [(f"{ID}.csv", WILD_TYPE.lower())])
    assert find_wild_type(by_file, tmp_path / f"{ID}.csv.gz") == WILD_TYPE
    found = surveyed(bare, wild_type=WILD_TYPE, split="random")
    assert list(found.sequences) == [sequence for _, sequence, _ in ROWS]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("OTHER", "OTHER.csv", "MKV")], f"has no row for '{ID}' among its 1"),
        ([(ID, "a.csv", "MKV"), ("b", f"{ID}.csv", "MKL")], f"has 2 different rows for '{ID}'"),
        ([(ID, f"{ID}.csv", "MK1V")], "position 3 of the wild type is '1'"),
    ],
)
def test_what_a_reference_file_does_not_say_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, str]], sentence: str
) -> None:
    path, reference = write_assay(tmp_path), write_reference(tmp_path, rows)
    with pytest.raises(UserError) as refused:
        find_wild_type(reference, path)
    assert sentence in str(refused.value)
    with pytest.raises(UserError, match="read from FASTA, whose first line starts with '>', or from a reference file"):
        find_wild_type(path, path)


def test_the_binned_score_is_no_feature_and_no_target(tmp_path: Path) -> None:
    header = "mutant,mutated_sequence,DMS_score_bin,DMS_score,fold_random_5,esm1v"
    path = write_assay(tmp_path, header=header)
    assert surveyed(path).table.target_column == "DMS_score"
    assert read_scores_file(path, None, None).names == ("esm1v",)
    named = read_scores_file(path, ["DMS_score_bin"], None)
    target = surveyed(path).target
    with pytest.raises(UserError, match="'DMS_score_bin' seems to be made of the target"):
        refuse_derived(named.names, np.array(named.values), target)
    binned = write_assay(tmp_path, header="mutant,mutated_sequence,DMS_score_bin")
    with pytest.raises(UserError, match="no column is called 'target' or the like"):
        surveyed(binned)
    with pytest.raises(UserError, match="has no column of numbers"):
        read_scores_file(binned, None, None)


def test_a_wild_type_may_be_in_utf_16_as_a_table_may(tmp_path: Path) -> None:
    path = tmp_path / "wt.fasta"
    path.write_bytes(f">wt\n{WILD_TYPE}\n".encode("utf-16"))
    assert find_wild_type(path, tmp_path / "t.csv") == WILD_TYPE
