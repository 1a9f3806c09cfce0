"""Deletions among mutations: a table of them is an alignment in the wild type's own columns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.candidates.candidates import read_candidates
from datasets.common.errors import UserError
from datasets.scores.keyed import read_scores_file
from datasets.sequences.chains import Chains
from datasets.sequences.mutations import MutationError, Mutator, are_mutations, find_first_position, normal_form
from datasets.tables.survey import survey
from datasets.tasks.own_table import table_task
from tests.helpers.tables import surveyed, write

PROTEIN = "MKTVDLA"
ROWS = [
    ("WT", PROTEIN, 1.0),
    ("T3-", "MK-VDLA", 0.5),
    ("A7G", "MKTVDLG", 0.75),
    ("D5-:L6-", "MKTV--A", 0.25),
    ("T3A", "MKAVDLA", 1.5),
    ("T3A:L6-", "MKAVD-A", 1.25),
    ("A7S", "MKTVDLS", 1.75),
    ("D5A", "MKTVALA", 0.8),
    ("D5A:L6-", "MKTVA-A", 0.9),
    ("T3S", "MKSVDLA", 0.1),
]


@pytest.mark.parametrize(
    ("written", "sequence", "normal"),
    [
        ("V4-", "MKT-DLA", "V4-"),
        ("V4del", "MKT-DLA", "V4-"),
        ("v4DEL", "MKT-DLA", "V4-"),
        ("4del", "MKT-DLA", "4-"),
        ("4-", "MKT-DLA", "4-"),
        ("\u0394V4", "MKT-DLA", "V4-"),
        ("\u22064", "MKT-DLA", "4-"),
        ("p.Val4del", "MKT-DLA", "V4-"),
        ("p.(Val4del)", "MKT-DLA", "V4-"),
        ("p.[Val4del;Asp5Gly]", "MKT-GLA", "V4-:D5G"),
        ("V4-_D5G", "MKT-GLA", "V4-:D5G"),
        ("V4-.D5G", "MKT-GLA", "V4-:D5G"),
        ("V4--D5G", "MKT-GLA", "V4-:D5G"),
        ("T3A-V4-", "MKA-DLA", "T3A:V4-"),
        ("V4del_D5del", "MKT--LA", "V4-:D5-"),
        ("p.Val4_Asp5del", "MKT--LA", "V4_D5del"),
        ("p.[Val4_Leu6del;Ala7Gly]", "MKT---G", "V4_L6del:A7G"),
        ("V04_D05del", "MKT--LA", "V4_D5del"),
        ("4_5del", "MKT--LA", "4_5del"),
        ("\u0394V4-D5", "MKT--LA", "V4_D5del"),
    ],
)
def test_deletions_are_read_as_people_write_them(written: str, sequence: str, normal: str) -> None:
    mutator = Mutator(PROTEIN, has_gaps=True)
    assert mutator.apply(written) == sequence
    assert normal_form(written) == normal
    assert mutator.apply(normal) == sequence
    assert are_mutations([written])
    assert are_mutations([normal])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("V4-D5G", "has two readings"),
        ("V4-D5-", "has two readings"),
        ("4-5", "has two readings"),
        ("A4-", "names A at position 4, where the wild type has V"),
        ("V4_A5del", "names A at position 5, where the wild type has D"),
        ("V4_A9del", "names position 9"),
        ("D5_V4del", "to one that does not come after it"),
        ("V4_V4del", "to one that does not come after it"),
        ("V4_D5del:D5G", "names position 5 twice"),
        ("M1_A7del", "deletes every residue"),
        ("p.Val4_Foo5del", "is no mutation"),
        ("p.Val4_Asp5delinsGly", "is an insertion"),
        ("p.Lys2dup", "is an insertion"),
        ("p.Val4_Asp5del7", "is no mutation"),
        ("1_999999999999999999999del", "is no mutation"),
    ],
)
def test_what_they_cannot_mean_is_said(written: str, says: str) -> None:
    with pytest.raises(MutationError, match=says):
        Mutator(PROTEIN, has_gaps=True).apply(written)


def test_positions_of_a_range_are_counted_as_the_table_counts() -> None:
    assert Mutator(PROTEIN, -2, has_gaps=True).apply("M-2_K-1del") == "--TVDLA"
    assert Mutator(PROTEIN, 24, has_gaps=True).apply("V27_D28del") == "MKT--LA"
    wild_type = "MKTAYIAKQRQISFVKSHFS"
    assert find_first_position(["T25_Y27del", "Q31-", "H40A"], wild_type) == 23


def test_deletions_of_chains_are_of_their_own_columns() -> None:
    mutator = Mutator(PROTEIN, has_gaps=True, chains=Chains.of("H3 L4"))
    assert mutator.apply("H:K2-:L:A4-") == "M-TVDL-"
    assert mutator.apply("H:M1_K2del:L:V1A") == "--TADLA"
    with pytest.raises(MutationError, match="deletes every residue of the chain L"):
        mutator.apply("L:V1_A4del")


def test_a_table_of_them_is_the_alignment_that_its_sequences_are(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "mutant,target", [(name, value) for name, _, value in ROWS])
    found = surveyed(path, wild_type=PROTEIN, split="random")
    assert list(found.raw_split().sequence) == [sequence for _, sequence, _ in ROWS]
    assert found.table.aligned_length == 7
    (note,) = [one for one in found.findings.found if "a gap is a state" in one.text]
    assert (note.level, note.lines) == ("note", (3, 5, 7, 10))
    aligned = write(tmp_path / "a.csv", "sequence,target", [(sequence, value) for _, sequence, value in ROWS])
    same = surveyed(aligned, wild_type=PROTEIN, split="random")
    assert same.raw_split().content_hash == found.raw_split().content_hash
    names = {"sequence_column": None, "mutation_column": None}
    assert {**same.table.settings, **names} == {**found.table.settings, **names}
    # A search may have written its split, in which the gaps are known from the table alone.
    raw = found.raw_split()
    lines = [row for row in zip(raw.sequence, raw.target, raw.part, raw.validation, strict=True) if "-" not in row[0]]
    again = survey(write(tmp_path / "split.csv", "sequence,target,set,validation", lines), found.table, is_reread=True)
    assert again.table.aligned_length == 7


def test_a_table_without_them_says_nothing_of_an_alignment(tmp_path: Path) -> None:
    rows = [(name, value) for name, sequence, value in ROWS if "-" not in sequence]
    found = surveyed(write(tmp_path / "t.csv", "mutant,target", rows), wild_type=PROTEIN)
    assert "aligned_length" not in found.table.settings


def test_one_protein_with_its_gap_at_two_columns_is_refused(tmp_path: Path) -> None:
    rows = [(name, value) for name, _, value in ROWS]
    path = write(tmp_path / "t.csv", "mutant,target", [*rows, ("L6-:D5L", 2.0)])  # D5- with another name
    assert surveyed(path, wild_type=PROTEIN, split="random").raw_split()
    write(path, "mutant,target", [*rows, ("D5-", 2.1), ("L6-:D5L", 2.0)])
    with pytest.raises(UserError, match=r"line 13: 'L6-:D5L' makes the same protein as 'D5-' \(line 12\), and would"):
        surveyed(path, wild_type=PROTEIN, split="random").raw_split()
    # Of chains a residue that moves to the next one is another protein.
    path = write(tmp_path / "c.csv", "mutant,target", [("A:K2-", 1.0), ("B:K1-", 2.0), ("WT", 3.0)])
    assert len(surveyed(path, wild_type="MK|KL", mutation_column="mutant").sequences) == 3


def test_of_aligned_sequences_those_of_one_protein_are_warned_of(tmp_path: Path) -> None:
    rows = [(sequence, value) for _, sequence, value in ROWS]
    path = write(tmp_path / "t.csv", "sequence,target", [*rows, ("MKTVAA-", 2.0)])
    found = surveyed(path, split="random")
    (warning,) = [one for one in found.findings.found if one.level == "warning" and "protein of" in one.text]
    assert (warning.lines, warning.text[:80]) == (
        (12,),
        "the sequence is the protein of line 10 with its gaps at other columns, and count",
    )
    assert len(found.raw_split().sequence) == 11
    # Of two chains a residue that moves to the next one is another protein.
    for last, n in (("MK-|KLV", 1), ("MK|VKLV", 0)):
        write(path, "sequence,target", [("MKV|KLV", 0.5), ("M-K|KLV", 1.0), (last, 2.0), ("MAV|KLV", 3.0)])
        warnings = [one.text for one in surveyed(path).findings.found if one.level == "warning"]
        assert len([text for text in warnings if "protein of" in text]) == n


def test_deletions_beside_sequences_are_compared_without_gaps(tmp_path: Path) -> None:
    rows = [(sequence.replace("-", ""), name, value) for name, sequence, value in ROWS]
    path = write(tmp_path / "t.csv", "sequence,mutant,target", rows)
    columns = {"sequence_column": "sequence", "mutation_column": "mutant", "wild_type": PROTEIN}
    found = surveyed(path, split="random", **columns)
    assert list(found.raw_split().sequence) == [sequence for sequence, _, _ in rows]
    assert found.table.aligned_length is None
    write(path, "sequence,mutant,target", [*rows, ("MKTVDA", "D5-", 2.0)])
    with pytest.raises(UserError, match="'D5-' makes L at position 5 of the wild type, and the sequence beside it"):
        surveyed(path, split="random", **columns).raw_split()


def test_candidates_may_have_them_where_training_had(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "mutant,target", [(name, value) for name, _, value in ROWS])
    task = table_task(surveyed(path, wild_type=PROTEIN).table, name="t")
    (tmp_path / "c.txt").write_text("p.Thr3del\nV4_D5del:A7G\nWT\n")
    (block,) = read_candidates(tmp_path / "c.txt", task, None).blocks
    assert block.sequences() == ["MK-VDLA", "MKT--LG", PROTEIN]
    assert block.labels == ["T3-", "V4_D5del:A7G", "WT"]
    with pytest.raises(UserError, match="line 1: 'T3-' is a deletion, and the sequences here are known without gaps"):
        list(read_candidates(tmp_path / "c.txt", replace(task, aligned_length=None), None).blocks)


def test_scores_by_mutations_may_be_of_deletions(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "mutant,score", [("T3-", 1.0), ("p.Val4_Asp5del", 2.0), ("T3A", 3.0)])
    found = read_scores_file(path, None, PROTEIN)
    residues = np.frombuffer(b"MK-VDLAMKT--LAMKAVDLA", dtype=np.uint8).reshape(3, -1)
    assert found.score(residues, np.array([7, 7, 7]))[:, 0].tolist() == [1, 2, 3]
